"""What can go wrong by the user's hand, or the solver's: the errors of odelib's own, whose messages are meant to be
read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 300  # characters of another library's message


class Error(Exception):
    """Base of the errors of odelib's own, but for interruptions. The message says what was wrong and what is allowed,
    or what to try."""


class OptionError(Error, ValueError):
    """An option out of range, or options that do not fit together."""


class DataError(Error):
    """A data set that cannot be had or read."""


class RecordError(Error):
    """A record or weights file that cannot be read, or that must not be written."""


class SolverError(Error, RuntimeError):
    """A solve that cannot go on. The message says when, what, and what to try."""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop. All work is kept; the message says how to go on, where there is something to say."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class OutOfMemory(Error):
    """There is less memory than the work needs. The message says for what."""


# How the allocators of torch begin, on a CPU and on a GPU, and what torch says of a size beyond all memory.
_OF_ALLOCATORS = re.compile(r"DefaultCPUAllocator|out of memory|Storage size calculation overflowed", re.IGNORECASE)


@contextmanager
def memory_for(what: object) -> Iterator[None]:
    """Raise OutOfMemory, which names `what`, where Python or an allocator of torch finds no memory in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _OF_ALLOCATORS.search(str(error))):
            raise
        tried = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        wanted = f" for another {tried[1]}" if tried else ""
        remedy = "smaller batches, images or networks take less"
        raise OutOfMemory(f"{what}: there is not enough memory{wanted}; {remedy}") from error


def in_one_line(error: object) -> str:
    """What another library's error says, in one printable line of some length; some have nothing but their name."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return printable(said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ...")


def printable(text: str) -> str:
    """A text in one line that a terminal shows and does not obey: other characters by their escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)

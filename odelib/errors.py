"""What can go wrong by the user's hand, or the solver's: every error whose message is meant to be read."""

_LONGEST = 300  # characters of another library's message


class Error(Exception):
    """Base of all errors of odelib. The message says what was wrong and what is allowed, or what to try."""


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


def in_one_line(error: object) -> str:
    """What another library's error says, in one printable line of some length; some have nothing but their name."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return printable(said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ...")


def printable(text: str) -> str:
    """A text in one line that a terminal shows and does not obey: other characters by their escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)

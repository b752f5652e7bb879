"""Signals that ask a process to stop: INT (Ctrl-C), TERM (`kill`, the end of a job's time), HUP (a closed terminal)."""

import signal
import threading
from collections.abc import Callable
from typing import Any

from odelib.errors import Interrupted

_NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Handled:
    """Within its `with` block these signals call `handler`, in the main thread.

    What the process was told to ignore, as nohup does with HUP, it goes on to ignore.
    """

    def __init__(self, handler: Callable[[int, Any], object]) -> None:
        self.handler = handler
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self.handler)

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """From now on they do again what they did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def interrupt(number: int, _: object) -> None:
    """Raise Interrupted, at once."""
    raise Interrupted("", number)


class Wish:
    """A wish to stop that waits until it can be heeded. Whoever asks twice is not made to wait.

    Use it as a `with` block in which signals are noted, and call `heed` where the work can be left. Of several
    processes, `agree` makes of every process's number (0 for no signal) one for all, so that they leave together.
    """

    def __init__(self, agree: Callable[[int], int] = lambda number: number) -> None:
        self._agree = agree
        self._noted = 0  # the signal that came to this process
        self._agreed = 0  # to any process, when `comes` was last called
        self._at_once: str | None = None  # what to say, while nothing needs to be waited for
        self._signals = Handled(self._note)

    def __enter__(self) -> "Wish":
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.let_go()

    def _note(self, number: int, _: object) -> None:
        self._signals.let_go()
        self._noted = number
        if self._at_once:
            self.at_once(self._at_once)

    def comes(self) -> bool:
        """Whether a signal has come: the time to keep what there is, before `heed` is called."""
        self._agreed = self._agree(self._noted)
        return self._agreed != 0

    def heed(self, message: str) -> None:
        """Raise Interrupted if `comes` has found a signal."""
        if self._agreed:
            raise Interrupted(message, self._agreed)

    def at_once(self, message: str) -> None:
        """Raise Interrupted if a signal has come to this process, or comes until `wait` is called."""
        self._at_once = message
        if self._noted:
            self._at_once = None
            raise Interrupted(message, self._noted)

    def wait(self) -> None:
        """From now on a signal waits."""
        self._at_once = None

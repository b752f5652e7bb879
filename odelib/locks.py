"""Locks: of several processes, one at a time works on a run."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from odelib.errors import RecordError


class Locked(RecordError):
    """Another process works on this run. The message names it."""


class Lock:
    """Within its `with` block this process alone works on the record at `path` (.json). Raises Locked, and
    RecordError where nothing can be written.

    The system lets go of the lock of a process that dies, however it dies; who holds it stands in a file beside it.
    Both files go with the block.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self._owner = path.with_suffix(".lock"), path.with_suffix(".owner")
        self._held = FileLock(self._file, timeout=0)
        self._removed = False

    def __enter__(self) -> "Lock":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held.acquire()
        except Timeout:
            raise Locked(f"{self.path} is in the hands of {self._who()}") from None
        except OSError as error:
            raise RecordError(f"{self.path} cannot be written ({error.strerror or error})") from error
        if not self._file.exists():  # whoever held it before has just taken the file away
            self._held.release()
            raise Locked(f"{self.path} was in other hands a moment ago")
        with suppress(OSError):  # a full disk, of which the run will hear
            self._owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._held.is_locked:
            self.remove()
            self._held.release()

    def remove(self) -> None:
        """Take the files away. A second time it does nothing: somebody else may have the lock by then."""
        for file in () if self._removed else (self._owner, self._file):
            with suppress(OSError):  # Windows removes the lock's file when it is let go
                file.unlink()
        self._removed = True

    def _who(self) -> str:
        """Who holds the lock; the file may go, or be empty yet, while it is read."""
        with suppress(OSError, UnicodeDecodeError):
            return self._owner.read_text(encoding="utf-8") or "another process"
        return "another process"

"""Locks: of several processes, one at a time works on a run."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from odelib.errors import RecordError


class Locked(RecordError):
    """Another process works on this run. The message names it."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run at `path` (.json) within the `with` block. Raises Locked where another process holds it.

    The system lets go of the lock of a process that dies, however it dies. Who holds it stands in a file beside it.
    """
    lock, owner = lock_files(path)
    try:
        with FileLock(lock, timeout=0):
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except Timeout:
        who = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise Locked(f"{path} is in the hands of {who}") from None


def lock_files(path: Path) -> tuple[Path, Path]:
    """The lock of a run, and the file that says who holds it."""
    return path.with_suffix(".lock"), path.with_suffix(".owner")

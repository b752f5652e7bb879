"""What a machine has: its memory, with which sizes are compared before they are asked for, and files that are files."""

import math
import os
import stat
from pathlib import Path


def memory() -> float:
    """The memory of this machine in bytes; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return math.inf


def beyond_memory(size: int) -> str:
    """Words for a number of bytes that is more than this machine has; none for one that fits."""
    return f"{size / 1e9:,.0f} GB of memory, and this machine has {memory() / 1e9:,.0f}" if size > memory() else ""


def must_be_a_file(path: Path) -> None:
    """Raise OSError where there is none that can be read to its end: a pipe may wait for ever, a device go on so."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("Is a directory" if path.is_dir() else "it is no file")

"""What a machine can hold: sizes that files and options declare are compared with its memory before it is asked for."""

import math
import os


def memory() -> float:
    """The memory of this machine in bytes; infinite where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return math.inf


def beyond_memory(size: int) -> str:
    """Words for a number of bytes that is more than this machine has; none for one that fits."""
    return f"{size / 1e9:,.0f} GB of memory, and this machine has {memory() / 1e9:,.0f}" if size > memory() else ""

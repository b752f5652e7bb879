"""A heartbeat: a progress bar says so when what it waits for takes far longer than usual."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from tqdm import tqdm

SLOW = 10  # times as long as usual
PATIENCE = 2.0  # seconds, below which nobody wonders


@contextmanager
def heartbeat(bar: tqdm, usual: float) -> Iterator[None]:
    """Within the block, say in `bar` when it takes more than `SLOW` times the `usual` seconds and `PATIENCE`. It is
    taken back after.

    Without a usual time, 0, and in a bar that is not shown, nothing is said.
    """
    if bar.disable or not usual:
        yield
        return
    wait = max(SLOW * usual, PATIENCE)
    timer = Timer(wait, bar.set_postfix_str, [f"this step takes more than {wait:.0f} s, the others took {usual:.2g} s"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        bar.postfix = None

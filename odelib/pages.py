"""What the book's pages use to show results: numbers for the prose, tables. Works outside the book as well."""

from collections.abc import Sequence

from IPython.display import Markdown, display

from odelib.records import Run


def glue(key: str, value: str) -> None:
    """Hand the text `value` to the prose, where {glue:text}`key` shows it; outside the book do nothing."""
    try:
        from myst_nb import glue as hand_over
    except ImportError:  # a notebook without the book's tools, as in Colab
        return
    hand_over(key, value, display=False)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show a table: numbers to the right, text to the left."""
    left = [isinstance(cell, str) and not cell[:1].isdigit() for cell in rows[0]]
    rule = [":--" if text else "--:" for text in left]
    lines = [header, rule, *rows]
    display(Markdown("\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)))


def mean_and_range(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and from least to most where there are several values: `1.50 (1.00 to 2.00)`."""
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def metrics_table(run: Run) -> None:
    """Show a run epoch by epoch."""
    header = ["epoch", "loss", "train accuracy", "test accuracy", "NFE forward", "NFE backward", "seconds", "lr"]
    rows = [
        [
            m.epoch,
            f"{m.train_loss:.4f}",
            f"{m.train_accuracy:.2%}",
            f"{m.test_accuracy:.2%}",
            f"{m.nfe_forward:.1f}",
            f"{m.nfe_backward:.1f}",
            f"{m.seconds:,.0f}",
            f"{m.lr:.4f}",
        ]
        for m in run.metrics
    ]
    table(header, rows)

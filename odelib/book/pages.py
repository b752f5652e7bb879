"""What the book's pages use to show results: numbers for the prose, tables, scripts. Works outside the book as well."""

import base64
import html
import io
import json
import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from odelib.records import RESULTS, Run
from odelib.shapes import UInt8

FIGURES = RESULTS.parent / "figures"


def glue(key: str, value: str) -> None:
    """Hand the text `value` to the prose, where {glue:text}`key` shows it; outside the book do nothing."""
    try:
        from myst_nb import glue as hand_over
    except ImportError:  # a notebook without the book's tools, as in Colab
        return
    hand_over(key, value, display=False)


def glue_all(page: str, numbers: dict[str, str]) -> None:
    """Hand every text of `numbers` to the prose, where {glue:text}`<page>-<key>` shows it."""
    for key, value in numbers.items():
        glue(f"{page}-{key}", value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Show a table: columns of numbers to the right, others to the left; without rows, its header."""
    columns = [[row[place] for row in rows] for place in range(len(header))]
    rule = ["--:" if _is_of_numbers(column) else ":--" for column in columns]
    lines = [header, rule, *rows]
    display(Markdown("\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)))


def _is_of_numbers(column: Sequence[object]) -> bool:
    """Whether all cells are numbers, which may have a sign, a unit or a range, besides those that only hold a dash."""
    cells = [cell for cell in map(str, column) if re.search(r"\w", cell)]
    return bool(cells) and all(
        re.match(r"[-+−<>]? ?\d", cell) and not re.search(r"[a-zA-Z]{3}", cell) for cell in cells
    )


def verbatim(text: str) -> str:
    """Markdown that shows `text` as it is, also within a table: no markup, no HTML."""
    return re.sub(r"[^\w .,-]|_", lambda found: f"&#{ord(found[0])};", text)


def quote(text: str) -> None:
    """Show Markdown as a quotation."""
    display(Markdown("\n".join(f"> {line}" for line in text.splitlines())))


def metrics_table(run: Run) -> None:
    """Show a run epoch by epoch; with a dash where it was not tested."""
    header = ["epoch", "loss", "train accuracy", "test accuracy", "NFE forward", "NFE backward", "seconds", "lr"]
    rows = [
        [
            m.epoch,
            f"{m.train_loss:.4f}",
            f"{m.train_accuracy:.2%}",
            "–" if m.test_accuracy is None else f"{m.test_accuracy:.2%}",
            f"{m.nfe_forward:.1f}",
            f"{m.nfe_backward:.1f}",
            f"{m.seconds:,.0f}",
            f"{m.lr:.4f}",
        ]
        for m in run.metrics
    ]
    table(header, rows)


def script(*names: str) -> str:
    """The text of `book/figures/<name>.js`, one behind the other."""
    return "\n".join((FIGURES / f"{name}.js").read_text(encoding="utf-8") for name in names)


def interactive(name: str, data: dict, still: Figure, alt: str, needs: Sequence[str] = ()) -> None:
    """Show the figure that readers can move: `book/figures/<name>.js` draws it from `data`, which goes along as JSON.

    The script defines `show(root, data)`, which adds the figure to the element `root`; `needs` names scripts beside it
    that it calls. Where no script runs, and on paper, the picture `still` stands in its place, with the text `alt`.
    `still` is closed.
    """
    drawn, png = io.BytesIO(), io.BytesIO()
    still.savefig(drawn, format="png")
    plt.close(still)
    # 128 colours are enough for a chart, and save two thirds of the bytes.
    Image.open(drawn).convert("RGB").quantize(128).save(png, format="PNG", optimize=True)
    picture = base64.b64encode(png.getvalue()).decode()
    text = json.dumps(data, separators=(",", ":")).replace("</", r"<\/")  # no </script> within the script
    page = f"""<div class="interactive" id="figure-{name}">
<style>{(FIGURES / "style.css").read_text(encoding="utf-8")}</style>
<img class="still" src="data:image/png;base64,{picture}" alt="{html.escape(alt)}">
<script>(() => {{
{script(*needs, name)}
const root = document.getElementById("figure-{name}");
root.classList.add("live");
show(root, {text});
}})();</script></div>"""
    display({"text/html": page, "image/png": picture, "text/plain": alt}, raw=True)


def sprite(images: UInt8[Tensor, "n 1 h w"], columns: int) -> str:
    """One picture of all images, dark on white, `columns` in a row, as the text of a data URI."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, height, width), dtype=np.uint8)
    cells[:n] = images[:, 0].cpu().numpy()
    sheet = cells.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    png = io.BytesIO()
    # 16 greys save a third of the bytes.
    Image.fromarray(255 - sheet).quantize(16).save(png, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"

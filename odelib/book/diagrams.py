"""Drawings of the book: `book/figures/<name>.svg`, put into the page itself, so that they follow its theme."""

from html import escape

from IPython.display import display

from odelib.book.pages import FIGURES


def diagram(name: str, alt: str) -> None:
    """Show the drawing `name`; `alt` says what is in it, for readers who do not see it.

    A file is one <svg> whose text and lines take their colours from `book/figures/diagram.css`.
    """
    drawing = (FIGURES / f"{name}.svg").read_text(encoding="utf-8")
    style = (FIGURES / "diagram.css").read_text(encoding="utf-8")
    page = f'<div class="diagram" role="img" aria-label="{escape(alt)}"><style>{style}</style>{drawing}</div>'
    display({"text/html": page, "text/plain": alt}, raw=True)

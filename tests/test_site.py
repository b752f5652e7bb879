"""The built site asks nobody for anything: its pages name no script, style, picture or font on another machine."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(SITE.glob("*.html"))
built = pytest.mark.skipif(not PAGES, reason="no built site in _build/html: run jupyter-book build book first")
# Where a browser fetches without being asked. A link that the reader clicks, <a href>, is none.
FETCHING = dict.fromkeys(["script", "img", "iframe", "source", "video", "audio", "embed"], "src") | {"link": "href"}


class Outside(HTMLParser):
    """Collects the addresses on other machines that the HTML it is fed would have a browser fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("rel") in ("canonical", "author", "license"):
            return
        address = attrs.get(FETCHING.get(tag), "") or ""
        if re.match(r"(https?:)?//", address):
            self.found.append(address)


def outside(html):
    parser = Outside()
    parser.feed(html)
    return parser.found


def test_what_counts_as_outside():
    fetched = '<script src="https://cdn.example/a.js"></script><link rel="stylesheet" href="//cdn.example/a.css">'
    assert outside(fetched) == ["https://cdn.example/a.js", "//cdn.example/a.css"]
    harmless = '<a href="https://a.example">x</a><img src="a.png"><link rel="canonical" href="https://b.example">'
    assert outside(harmless) == []


@built
def test_pages_fetch_nothing_from_outside():
    assert {page.name: found for page in PAGES if (found := outside(page.read_text(encoding="utf-8")))} == {}


@built
def test_styles_fetch_nothing_from_outside():
    styles = SITE.rglob("*.css")
    pattern = re.compile(r"""(?:url\(|@import\s)\s*["']?((?:https?:)?//[^"')\s]+)""")
    found = {style.name: pattern.findall(style.read_text(encoding="utf-8")) for style in styles}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}


@built
def test_figures_are_pictures():
    """Where MPLBACKEND takes matplotlib's pictures from the kernel, a cell shows `<Figure size ...>` and no warning."""
    assert [page.name for page in PAGES if "&lt;Figure size" in page.read_text(encoding="utf-8")] == []


@built
def test_pages_have_a_description_and_a_preview():
    for page in PAGES:
        html = page.read_text(encoding="utf-8")
        if page.name != "search.html":
            assert re.search(r'<meta name="description" content=".{40}', html), page.name
            assert re.search(r'<meta property="og:image" content=".*_static/flow.png"', html), page.name

"""The built site asks nobody for anything: its pages name no script, style, picture or font on another machine.

And its pages lead from one to the next.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
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


def linked(html, class_name):
    """The page that the theme's button at the foot of a page leads to, or None."""
    found = re.search(rf'<a class="{class_name}"\s+href="([^"#]+)', html)
    return found and found[1]


def test_what_counts_as_a_link_to_the_next_page():
    html = '<a class="left-prev"\n href="one.html"\n title="previous page"><a class="right-next"\n href="three.html">'
    assert (linked(html, "left-prev"), linked(html, "right-next")) == ("one.html", "three.html")
    assert linked(html, "right") is None


@built
def test_every_page_leads_to_its_neighbours_in_the_table_of_contents():
    yaml = pytest.importorskip("yaml")  # comes with the book's tools, as the site does
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    names = [f"{name}.html" for name in (toc["root"], *chapters)]
    for name, before, after in zip(names, [None, *names], [*names[1:], None]):
        html = (SITE / name).read_text(encoding="utf-8")
        assert (linked(html, "left-prev"), linked(html, "right-next")) == (before, after), name

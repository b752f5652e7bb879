"""What helps to read: names in code that lead to the package, and the links that ask about a section."""

import re
import sys
from html import escape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
SITE = ROOT / "_build" / "html"

from ask import with_questions
from code_links import with_links
from repository import Repository


def shown(*lines, language="ipython3"):
    """Code as Pygments writes it, as far as the links look at it: names, dots, signs of equality."""
    spans = {"n": r"\w+", "o": r"[.=]"}
    pattern = re.compile("|".join(f"(?P<{kind}>{what})" for kind, what in spans.items()))
    code = pattern.sub(lambda m: f'<span class="{m.lastgroup}">{m[0]}</span>', escape("\n".join(lines), quote=False))
    return f'<div class="highlight-{language} notranslate"><div class="highlight"><pre>{code}</pre></div></div>'


def links(*blocks):
    """The words that are linked, each with where it leads to."""
    html = with_links("".join(blocks), lambda full: f"api.html#{full}")
    return [(word, to) for to, word in re.findall(r'href="api.html#([^"]+)"><span class="n">(\w+)', html)]


def test_names_lead_to_their_home():
    assert links(shown("from odelib import fit")) == [("fit", "odelib.training.fit")]
    assert links(shown("from odelib.training import fit as f")) == [("f", "odelib.training.fit")]


def test_a_name_is_linked_once_in_every_block_after_the_import_too():
    blocks = shown("from odelib import fit", "fit(a)"), shown("fit(b)", "fit(c)"), shown("fit(d)", language="python")
    assert len(links(*blocks)) == 3
    assert links(shown("fit(a)")) == []  # imported from nowhere
    assert links(shown("from torch import fit")) == []


def test_what_has_another_meaning_is_not_linked():
    imported = shown("from odelib import fit")
    for other in ("fit = 1", "def fit(): pass", "class fit: pass", "lambda fit: 1", "for fit in []: pass"):
        assert links(imported, shown(other)) == []
        # In an excerpt it says nothing about the cells.
        assert links(imported, shown(other, "fit(a)", language="python")) == [("fit", "odelib.training.fit")]
    assert len(links(imported, shown("a.fit()"), shown("f(fit=1)"))) == 1  # an attribute, a keyword


def test_what_is_no_python_or_has_no_entry_stays():
    for html in (shown("from odelib import"), shown("!odelib fit"), "<p>from odelib import fit</p>", shown("x < y")):
        assert with_links(html, lambda full: "api.html") == html
    html = shown("from odelib import PRESETS")
    assert with_links(html, lambda full: None) == html


def test_the_heading_of_a_section_gets_a_link_that_asks_about_it():
    heading = '<h2>Is <em>f</em> &amp; g<a class="headerlink" href="#is-f-g" title="Link to this heading">#</a></h2>'
    html = with_questions(f"<h1>T</h1>{heading}<h3>U</h3>", "solvers", Repository("Someone/neural-odes", "c0ffee"))
    (address,) = re.findall(r'class="ask" href="([^"]+)"', html)
    parts = urlsplit(address.replace("&amp;", "&"))
    assert parts.netloc + parts.path == "github.com/Someone/neural-odes/issues/new"
    assert parse_qs(parts.query) == {
        "title": ["solvers: Is f & g"],
        "body": ["About the section [Is f & g](https://someone.github.io/neural-odes/solvers.html#is-f-g):\n\n"],
    }
    assert 'aria-label="Ask about the section Is f &amp; g"' in html
    assert re.sub(r'<a class="ask".*?</a>', "", html) == f"<h1>T</h1>{heading}<h3>U</h3>"


@pytest.mark.skipif(not SITE.exists(), reason="no built site in _build/html: run jupyter-book build book first")
def test_code_of_the_built_site_leads_to_entries_that_are_there():
    entries = set(re.findall(r'id="([^"]+)"', (SITE / "api.html").read_text(encoding="utf-8")))
    found = {}
    for page in SITE.glob("*.html"):
        found[page.name] = set(re.findall(r'class="code-link" href="([^"]+)"', page.read_text(encoding="utf-8")))
    assert "api.html#odelib.solvers.odeint" in found["solvers.html"]
    for name, addresses in found.items():
        for address in addresses:
            page, anchor = address.split("#")
            assert page in ("api.html", "") and anchor in entries, (name, address)

"""The BibTeX entry on the first page says what CITATION.cff says."""

import re
from pathlib import Path

import odelib

ROOT = Path(__file__).parent.parent


def test_bibtex_agrees_with_the_citation_file():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cff = dict(re.findall(r'^(?:  - )?([\w-]+): "?(.*?)"?$', text, re.MULTILINE))
    entry = (ROOT / "book" / "index.md").read_text(encoding="utf-8").split("```bibtex\n")[1].split("```")[0]
    fields = {name: value.strip("{}") for name, value in re.findall(r"^  (\w+) +?= (.+),$", entry, re.MULTILINE)}
    assert fields == {
        "title": cff["title"],
        "author": cff["name"],
        "year": cff["date-released"][:4],
        "version": cff["version"],
    }
    assert cff["version"] == odelib.__version__

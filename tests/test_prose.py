"""Prose: a measured number on a page, in a caption or in an alt text is handed over by a cell, never typed."""

import re
from pathlib import Path

import pytest

BOOK = Path(__file__).parent.parent / "book"
PAGES = sorted(BOOK.glob("*.md"))

NUMBER = r"(?<![\w.,/^{])\d[\d.,]*"
UNIT = r"(?:%|percent\b|(?:percentage )?points?\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|MB\b|GB\b|times\b)"
MEASURED = re.compile(rf"{NUMBER}(?: (?:to|or|and) {NUMBER})?[\s\\,]*{UNIT}")

# What is no measurement of ours, wherever it stands.
EVERYWHERE = {
    r"Time: .{0,90}?\.(?:\s|$)": "how long a page takes to read and to run: an estimate, and called one",
    r"95\s%\s(?:of|interval|confidence)|at 95\s%|interval of 95\s%": "the level of an interval",
}
# Page by page: the words around the number, and why it may stand there.
ALLOWED: dict[str, dict[str, str]] = {}


def prose(text: str) -> str:
    """A page without its head, code, formulas and glued values; captions and alt texts of its cells at the end."""
    text = re.sub(r"\A---\n.*?^---\n", "", text, flags=re.S | re.M)
    cells = re.findall(r"^(`{3,})\{code-cell\}(.*?)^\1\s*$", text, flags=re.S | re.M)
    drawn = [re.findall(r"^ *(?:alt|caption): (.*?)(?=^ *\w+:|^---)", body, flags=re.S | re.M) for _, body in cells]
    text = re.sub(r"^(`{3,})(?:\{(?:code-cell|math)\})?[^\n{]*\n.*?^\1\s*$", "", text, flags=re.S | re.M)
    text = re.sub(r"\{glue:text\}`[^`]*`|`[^`]*`|\$\$.*?\$\$", "…", text, flags=re.S)
    return text + "\n" + "\n".join(line for lines in drawn for line in lines)


def typed(text: str, allowed: dict[str, str]) -> list[str]:
    """The numbers with a unit that stand in prose and are not allowed, each followed by the words around it."""
    found = prose(text)
    for pattern in [*EVERYWHERE, *map(re.escape, allowed)]:
        found = re.sub(pattern.replace(r"\ ", r"\s+"), "", found, flags=re.S)
    return [
        " ".join(f"{m.group()}: {found[max(0, m.start() - 60) : m.end() + 40]}".split())
        for m in MEASURED.finditer(found)
    ]


def test_numbers_are_found_where_a_reader_sees_them():
    page = "---\nx: 5 %\n---\nIt takes 12 ms, or {glue:text}`a` %.\n\n```python\n7 s\n```\n$$3 s$$\n`9 times`\n"
    page += (
        "```{code-cell} ipython3\n---\nmystnb:\n  image:\n    alt: It falls to 3 percent.\n---\nx = 1  # 8 MB\n```\n"
    )
    assert [words.partition(":")[0] for words in typed(page, {})] == ["12 ms", "3 percent"]
    assert typed("It takes\n12 ms.", {"takes 12 ms": "why"}) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_measured_number_is_typed(page):
    assert typed(page.read_text(encoding="utf-8"), ALLOWED.get(page.stem, {})) == []


def test_every_exception_is_needed_and_has_its_reason():
    for name, exceptions in ALLOWED.items():
        text = prose((BOOK / f"{name}.md").read_text(encoding="utf-8"))
        for words, reason in exceptions.items():
            assert re.search(re.escape(words).replace(r"\ ", r"\s+"), text) and MEASURED.search(words), words
            assert len(reason) > 5

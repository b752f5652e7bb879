"""Prose: a measured number on a page, in a caption or in an alt text is handed over by a cell, never typed."""

import re
from itertools import pairwise
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
PUBLISHED, COUNTED = "published, and cited there", "counted, not measured"
ALLOWED: dict[str, dict[str, str]] = {
    "adjoint-limits": {"39 to 97 % less training time": PUBLISHED},
    "adjoint-vs-direct": {"report up to 62 %": PUBLISHED, "within 2 %": "the bound by which the record is read"},
    "datasets": {
        "93.0 % for LayerNorm": PUBLISHED,
        "76.2 % for BatchNorm": PUBLISHED,
        "asks for 91 % of the right class and 1 % of each": "arithmetic of ten classes",
        "above guessing (10 % and 5 %)": "arithmetic of ten and twenty classes",
    },
    "faq": {
        "shows 10 % accuracy": "what a guess among ten classes has",
        "0.01 points on MNIST": COUNTED,
        "stops near 85 %": "the symptom in the reader's words",
        "schedule, 92.2 %": PUBLISHED,
        "last save: 30 seconds": "SAVED_EVERY, tested there",
    },
    "layers": {
        "less than 0.6 % error": PUBLISHED,
        "0.37 % error for one residual block, 0.34 % for six, and 0.45 % for an ODE": PUBLISHED,
        "ODE-Net (0.42 %": PUBLISHED,
        "network of 0.41 %": PUBLISHED,
    },
    "metrics": {
        "71 times as large": COUNTED,
        r"0.01 \cdot 70 = 70\,\%": COUNTED,
    },
    "play": {"below 1 %": "a question, not an answer"},
    "resnet-to-ode": {"81 points through": "points of a grid"},
    "setup": {
        "after 12 hours": PUBLISHED,
        "at most 12 hours": PUBLISHED,
        "254 s per epoch, against 13 s for six": PUBLISHED,
        "At 254 s, 160 epochs": PUBLISHED,
        "accuracy near 10 %": "what a guess among ten classes has",
        r"$468\,s + 70\,e$": "s is a letter of the formula",
    },
    "solvers-inside": {"800 points of the curve": "points of a curve"},
    "speed": {
        "race to 99 %": "the goal",
        "values at 18 points": "points of an interpolation",
        "around them go to 64 points": "points of an interpolation",
    },
}


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_sentence_becomes_a_comment(page):
    """MyST takes a line that begins with a percent sign for one, and the reader never sees it."""
    assert re.findall(r"^\s*%.*", prose(page.read_text(encoding="utf-8")), flags=re.M) == []


def test_every_exception_is_needed_and_has_its_reason():
    for name, exceptions in ALLOWED.items():
        text = prose((BOOK / f"{name}.md").read_text(encoding="utf-8"))
        for words, reason in exceptions.items():
            assert re.search(re.escape(words).replace(r"\ ", r"\s+"), text) and MEASURED.search(words), words
            assert len(reason) > 5


def test_a_next_page_that_is_named_is_that_of_the_table_of_contents():
    order = re.findall(r"file: (\S+)", (BOOK.parent / "_toc.yml").read_text(encoding="utf-8"))
    for page, following in pairwise(order):
        (last,) = re.findall(r"[^\n]+\Z", (BOOK / f"{page}.md").read_text(encoding="utf-8").strip())
        named = re.match(r"Next: .*?\]\(([\w-]+)\.md\)", last)
        assert not named or named[1] == following, page

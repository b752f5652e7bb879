"""The cache of the build in CI: its key must name every file that a page computes with, or pages show old results."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_key_of_the_cached_build_names_all_inputs_of_the_pages(monkeypatch):
    pytest.importorskip("myst_nb", reason='no book tools: pip install -e ".[book]"')
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from freshness import PATTERNS

    workflow = (ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8")
    key = re.search(r"key: .*hashFiles\((.*)\)", workflow).group(1)
    hashed = {path for glob in re.findall(r"'(.+?)'", key) for path in ROOT.glob(re.sub(r"\*\*$", "**/*", glob))}
    pages = ("book/*.md", "book/*.bib", "book/_ext/*.py", "_config.yml", "_toc.yml")
    inputs = (*PATTERNS, *pages, "odelib/**/*.py", "pyproject.toml")
    for pattern in inputs:
        found = set(ROOT.glob(pattern))
        assert found and found <= hashed, pattern


def test_actions_are_named_by_commit_with_the_version_beside_it():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for line in workflow.read_text(encoding="utf-8").splitlines():
            if "uses:" in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line), (workflow.name, line)

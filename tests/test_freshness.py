"""Which modules a page is run again for: those that its code imports, and no others."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEADER = "---\nkernelspec:\n  name: python3\n---\n\n"


@pytest.fixture
def modules(monkeypatch):
    pytest.importorskip("myst_nb", reason='no book tools: pip install -e ".[book]"')
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    from freshness import modules

    return modules


def page(*cells):
    return HEADER + "\n\n".join(f"```{{code-cell}} ipython3\n{cell}\n```" for cell in cells)


def test_a_page_depends_on_what_it_imports_and_on_what_that_imports(modules):
    found = modules(page("from odelib.solvers import odeint"))
    assert found == {"odelib.solvers", "odelib.errors", "odelib.shapes"}
    assert modules(page("import odelib.solvers as s\nprint(s)")) == found
    assert modules(page(":tags: [hide-input]\n\nfrom odelib.solvers import odeint")) == found
    assert modules(page("---\ntags: [hide-input]\n---\nif True:\n    from odelib import solvers")) == found


def test_a_name_of_the_package_is_followed_to_its_home(modules):
    assert modules(page("from odelib import ODEBlock")) == modules(page("import odelib.odeblock"))


def test_a_page_without_odelib_depends_on_none_of_it(modules):
    assert modules(page("import torch", "%matplotlib inline\nx = 1")) == set()
    assert modules(HEADER + "```python\nfrom odelib import ODEBlock\n```") == set()


@pytest.mark.parametrize("cell", ["!odelib data mnist-sample", "%%bash\nodelib data mnist-sample > /dev/null"])
def test_a_command_depends_on_all_that_the_command_line_reaches(modules, cell):
    assert modules(page(cell)) >= {"odelib.cli", "odelib.runs", "odelib.measurements.timing"}


def test_a_page_of_records_depends_on_every_measurement(modules):
    found = modules(page("from odelib.studies import STUDIES"))
    every = {f"odelib.measurements.{path.stem}" for path in (ROOT / "odelib" / "measurements").glob("[!_]*.py")}
    assert every <= found

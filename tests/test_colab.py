"""The pages as notebooks: no raw MyST, links to the site, a first cell that gets the package, and all of them run."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

pytest.importorskip("jupyter_book", reason="the book's tools are not installed: pip install -e '.[book]'")

import nbformat
from colab import add_buttons, first_cell, has_code, notebook, write_notebooks
from plain_markdown import Book, ConversionError, Converter
from repository import Repository
from sphinx.errors import SphinxError

HERE = Repository("Someone/neural-odes", "c0ffee")
SITE = "https://someone.github.io/neural-odes/"
BOOK = Book.read(ROOT, HERE)
PAGES = [page for page, text in BOOK.pages.items() if has_code(text)]

TEXT = """\
# First

(a-label)=
## A heading: with a colon

$$
a &= b \\\\
c &= d
$$ (eq-one)

````{prf:theorem} Of the box
:label: thm-box

It holds by {eq}`eq-one`:

$$
x
$$ (eq-two)

```{note}
Inner *note*.
```
````

```{exercise} Try it
:label: ex-try

Do.
```

```{code-cell} ipython3
---
mystnb:
  figure:
    caption: A caption with {eq}`eq-two`.
    name: fig-one
---
1 + 1
```
"""


@pytest.fixture
def convert(tmp_path):
    """Plain Markdown of a text, as page `second` of a small book beside TEXT; `published` or with no repository."""
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "p.png").touch()
    (tmp_path / "code.py").write_text("def f():\n    return 1\n\n\ndef g():\n    return 2\n")
    (tmp_path / "references.bib").write_text(
        "@misc{one, author={N{\\o}rsett, S. P.}, year={1993}}\n"
        "@misc{two, author={Chen, Li and {van der Pol}, B.}, year={2018}}\n"
        "@misc{three, author={A, B and C, D and E, F}}\n"
    )

    def convert(text, values=None, published=True, page="second"):
        pages = {"first": TEXT, "second": "# Second"} | {page: text}
        book = Book(pages, BOOK.extensions, tmp_path, HERE if published else None)
        return Converter(book, page, values or {}).convert(text)

    return convert


@pytest.mark.parametrize(
    "text, plain",
    [
        # references
        ("see {eq}`eq-two`", f"see [(2)]({SITE}first.html#equation-eq-two)"),
        ("{prf:ref}`thm-box`", f"[Theorem (Of the box)]({SITE}first.html#thm-box)"),
        ("{ref}`a-label`", f"[A heading: with a colon]({SITE}first.html#a-label)"),
        ("{ref}`there <a-label>`", f"[there]({SITE}first.html#a-label)"),
        ("{numref}`fig-one`", f"[the figure]({SITE}first.html#fig-one)"),
        ("{doc}`first`", f"[First]({SITE}first.html)"),
        ("[](first.md) and [so](first.md)", f"[First]({SITE}first.html) and [so]({SITE}first.html)"),
        ("[](first.md#a-heading-with-a-colon)", f"[A heading: with a colon]({SITE}first.html#a-heading-with-a-colon)"),
        ("[`code` *here*](#a-label)", f"[`code` *here*]({SITE}first.html#a-label)"),
        ("[out](https://a.b/c_d) <https://e.f>", "[out](https://a.b/c_d) <https://e.f>"),
        ("[code](code.py)", "[code](https://github.com/Someone/neural-odes/blob/c0ffee/book/code.py)"),
        ("{download}`code.py`", "[code.py](https://github.com/Someone/neural-odes/blob/c0ffee/book/code.py)"),
        ("{py:func}`~odelib.plots.flow`", f"[`flow`]({SITE}api.html#odelib.plots.flow)"),
        ("{class}`config <odelib.Config>`", f"[`config`]({SITE}api.html#odelib.Config)"),
        # citations
        ("{cite:t}`one`", f"[Nørsett (1993)]({SITE}references.html)"),
        (
            "{cite:p}`two,three`",
            f"([Chen and van der Pol, 2018]({SITE}references.html); [A et al.]({SITE}references.html))",
        ),
        # numbers
        ("{glue:text}`known` %", "99 %"),
        ("{glue:text}`unknown` %", f"[…]({SITE}second.html) %"),
        # what is code or mathematics stays, but for formulas on several lines
        ("`` {eq}`x` `` and `(a)=`", "`` {eq}`x` `` and `(a)=`"),
        ("```python\n{eq}`x`\n:::\n```", "```python\n{eq}`x`\n:::\n```"),
        ("a $x\ny$ b", "a $x y$ b"),
        ("$$\nx +\ny\n$$", "$$x + y$$"),
        ("(a-name)=\n## Head\n\n% a comment\n\ntext", "## Head\n\n\ntext"),
        # tables, lists and quotes
        ("| a |\n|:--|\n| `x \\| y` {doc}`first` |", f"| a |\n|:--|\n| `x \\| y` [First]({SITE}first.html) |"),
        ("- a {doc}`first`\n  b {doc}`first`", f"- a [First]({SITE}first.html)\n  b [First]({SITE}first.html)"),
        ("> a\n> {doc}`first`", f"> a\n> [First]({SITE}first.html)"),
        ("1. a\n\n   ```{tip}\n   b\n   ```", "1. a\n\n   > **Tip.**\n   >\n   > b"),
        (
            "```{list-table} T\n:header-rows: 1\n\n* - a\n  - b\n* - c\n  - {glue:text}`known`\n```",
            "**T**\n\n| a | b |\n|:--|:--|\n| c | 99 |",
        ),
        ("```{table} T\n| a |\n|:--|\n| b |\n```", "**T**\n\n| a |\n|:--|\n| b |"),
        # boxes
        (":::{admonition} Task *1*, done\n:class: tip\na\n:::", "> **Task *1*, done.**\n>\n> a"),
        ("```{margin} Aside\na\n```", "> **Aside.**\n>\n> a"),
        ("```{note}\na\n\nb\n```", "> **Note.**\n>\n> a\n>\n> b"),
        ("````{prf:proof}\nBy\n\n$$\nx\n$$\n````", "> **Proof.**\n>\n> By\n>\n> $$x$$"),
        ("```{exercise} Why?\n:label: ex-why\n\na\n```", "> **Exercise (Why?).**\n>\n> a"),
        (
            "````{solution-start} ex-try\n:class: dropdown\n````\n\na\n\n````{solution-end}\n````",
            "> **Solution (Try it).**\n\na",
        ),
        # files
        ("```{literalinclude} code.py\n:language: python\n:pyobject: g\n```", "```python\ndef g():\n    return 2\n```"),
        ("```{code-block} python\na\n```", "```python\na\n```"),
        (
            "![alt](_static/p.png)",
            "![alt](https://raw.githubusercontent.com/Someone/neural-odes/c0ffee/book/_static/p.png)",
        ),
        (
            "```{figure} _static/p.png\n:alt: alt\n\nCaption {eq}`eq-one`\n```",
            "![alt](https://raw.githubusercontent.com/Someone/neural-odes/c0ffee/book/_static/p.png)\n\n"
            f"Caption [(1)]({SITE}first.html#equation-eq-one)",
        ),
        # what only the site can show
        ("```{bibliography}\n:all:\n```", f"([This part is on the site]({SITE}second.html).)"),
        (
            "```{eval-rst}\n.. automodule:: odelib.a\n.. autofunction:: odelib.a.f\n   :members: x\n```",
            f"- [`odelib.a`]({SITE}second.html#module-odelib.a)\n- [`odelib.a.f`]({SITE}second.html#odelib.a.f)",
        ),
    ],
)
def test_what_becomes_of(text, plain, convert):
    assert convert(text, {"known": "99"}) == plain


def test_nested_directives_and_numbered_equations(convert):
    whole = convert(TEXT.partition("```{code-cell}")[0], page="first")
    assert whole == (
        "# First\n\n## A heading: with a colon\n\n$$a &= b \\\\ c &= d \\tag{1}$$\n\n> **Theorem (Of the box).**\n>\n"
        f"> It holds by [(1)]({SITE}first.html#equation-eq-one):\n>\n> $$x \\tag{{2}}$$\n>\n> > **Note.**\n> >\n"
        "> > Inner *note*.\n\n> **Exercise (Try it).**\n>\n> Do."
    )


@pytest.mark.parametrize(
    "text, plain",
    [
        ("[a](#a-label) {eq}`eq-one` {cite:t}`one`", "a (1) Nørsett (1993)"),
        ("[](first.md) {doc}`first` [code](code.py)", "First First code"),
        ("{py:func}`~odelib.plots.flow`, {glue:text}`unknown`", "`flow`, …"),
        ("![what it shows](_static/p.png)", "(A picture, to be seen in the book: what it shows)"),
    ],
)
def test_without_a_site_links_are_text(text, plain, convert):
    assert convert(text, published=False) == plain


@pytest.mark.parametrize(
    "text, what, line",
    [
        ("text\n\n```{tab-set}\n```", "directive {tab-set}", 3),
        ("> text\n>\n> ```{tab-set}\n> ```", "directive {tab-set}", 3),
        ("```{note}\ntext\n\n{kbd}`x`\n```", "role {kbd}", 4),
        (":::{admonition} Title\n:class: tip\n\n{kbd}`x`\n:::", "role {kbd}", 4),
        ("| a |\n|:--|\n| {kbd}`x` |", "role {kbd}", 3),
        ("- ```{code-cell} ipython3\n  ```", "directive {code-cell}", 1),  # cells stand at the top level only
        ("::: div\n:::", "colon fence", 1),
        ("[a]{.class}", "attributes", 1),
        ("[{eq}`eq-one`](first.md)", "a role within a link", 1),
        ("{eq}`eq-none`", "reference to 'eq-none'", 1),
        ("{doc}`none`", "page 'none'", 1),
        ("{cite:p}`none`", "citation 'none'", 1),
        ("[a](#none)", "link to '#none'", 1),
        ("[a](none.md)", "link to 'none.md'", 1),
        ("- a\n\t  b {eq}`eq-one`", "text with a tab in it", 1),
        ("```{eval-rst}\n.. note:: a\n```", "reStructuredText", 1),
    ],
)
def test_what_has_no_plain_markdown_is_refused_by_name_and_line(text, what, line, convert):
    with pytest.raises(ConversionError) as refused:
        convert(text)
    assert str(refused.value).startswith(f"second.md, line {line}: no plain Markdown for {what}")


def test_the_line_is_that_of_the_page(tmp_path):
    text = "---\nkernelspec:\n  name: python3\n---\n\n# P\n\n```{code-cell}\n1\n```\n\n\ntext\n\n{kbd}`x`\n"
    (tmp_path / "references.bib").touch()
    book = Book({"p": text}, BOOK.extensions, tmp_path, None)
    with pytest.raises(ConversionError, match="p.md, line 15: "):
        notebook(book, "p", {}, "")


@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_of_the_book_is_valid_and_free_of_myst(page):
    made = notebook(BOOK, page, {}, "first")
    nbformat.validate(made)
    assert made.cells[0].source == "first" and made.metadata.kernelspec.name == "python3"
    assert "jupytext" not in made.metadata
    code = [cell.source for cell in made.cells[1:] if cell.cell_type == "code"]
    assert len(code) == BOOK.pages[page].count("```{code-cell}") and all(code)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"^([> ]*)```.*?^\1```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
            assert "```{" not in prose
            prose = re.sub(r"(`+).*?\1|(\$\$?).*?\2", "", prose, flags=re.DOTALL)  # code and formulas
            for raw in (r"\{[a-z][\w:-]*\}", r"^\(\S+\)=", ":::", r"\]\((?!https://)"):
                found = re.search(raw, prose, re.MULTILINE)
                assert not found, f"{found[0]!r} in {prose!r}"


def test_the_same_page_gives_the_same_file():
    assert nbformat.writes(notebook(BOOK, "index", {}, "")) == nbformat.writes(notebook(BOOK, "index", {}, ""))


def test_captions_follow_their_cells_and_hidden_code_is_folded(convert, tmp_path):
    front = "---\njupytext:\n  format_name: myst\nkernelspec:\n  name: python3\naccelerator: GPU\n---\n"
    hidden = "```{code-cell} ipython3\n:tags: [remove-cell]\n2\n```\n"
    book = Book({"first": front + TEXT + hidden}, BOOK.extensions, tmp_path, None)
    made = notebook(book, "first", {}, "0")
    assert [cell.source for cell in made.cells[-3:]] == ["1 + 1", "*A caption with (2).*", "2"]
    assert "cellView" not in made.cells[-3].metadata and made.cells[-1].metadata.cellView == "form"
    assert made.metadata.accelerator == "GPU"


def test_pages_that_train_live_ask_for_a_gpu_and_offer_the_full_study():
    for page in ("setup", "metrics", "adjoint-vs-direct", "layers"):
        made = notebook(BOOK, page, {}, "")
        code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
        assert made.metadata.accelerator == "GPU"
        assert len(re.findall(r"^full = False  # True: ", code, re.MULTILINE)) == 1
        assert "if full" in code and "default_device()" in code


@pytest.fixture
def app(tmp_path):
    """As much of Sphinx as the extension looks at, with what a cell of the page `metrics` has glued."""
    output = {"key": {"data": {"text/plain": "'99.3 (99.2 to 99.4)'"}, "metadata": {}, "output_type": "display_data"}}
    (tmp_path / "metrics.glue.json").write_text(json.dumps(output))
    env = SimpleNamespace(mystnb_config=SimpleNamespace(output_folder=tmp_path))
    return SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path, env=env)


def test_the_build_writes_every_notebook_with_the_numbers_it_has(app, monkeypatch):
    text = "text {glue:text}`key`\n\n```{code-cell}\n1\n```\n"
    book = Book({"metrics": text, "layers": text, "plain": "no code"}, BOOK.extensions, BOOK.folder, None)
    monkeypatch.setattr("colab.the_book", lambda: book)
    write_notebooks(app, None)
    made = {path.stem: nbformat.read(path, as_version=4) for path in (app.outdir / "notebooks").iterdir()}
    assert {page: found.cells[1].source for page, found in made.items()} == {
        "metrics": "text 99.3 (99.2 to 99.4)",
        "layers": "text …",
    }


def test_the_build_fails_where_a_page_has_no_plain_markdown(app, monkeypatch):
    book = Book({"p": "{kbd}`x`\n\n```{code-cell}\n1\n```\n"}, BOOK.extensions, BOOK.folder, None)
    monkeypatch.setattr("colab.the_book", lambda: book)
    with pytest.raises(SphinxError, match="p.md, line 1: no plain Markdown for role {kbd}"):
        write_notebooks(app, None)


# Where the book is published


@pytest.mark.parametrize(
    "environ, remote, name",
    [
        ({"GITHUB_REPOSITORY": "a/b"}, "https://github.com/c/d", "a/b"),
        ({}, "https://github.com/c/d", "c/d"),
        ({}, "https://github.com/c/d.git", "c/d"),
        ({}, "https://user@github.com/c/d.git/", "c/d"),
        ({}, "git@github.com:c/d.e.git", "c/d.e"),
        ({}, "ssh://git@github.com/c/d", "c/d"),
        ({}, "https://gitlab.com/c/d", None),
        ({}, "https://example.org/github.com/c/d", None),
        ({}, None, None),
    ],
)
def test_the_repository_comes_from_the_environment_or_the_remote(environ, remote, name, tmp_path):
    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "empty")
    if remote:
        git("remote", "add", "origin", remote)
    found = Repository.of(tmp_path, environ)
    assert found == (Repository(name, git("rev-parse", "HEAD").strip()) if name else None)
    if found:
        assert Repository.of(tmp_path, {**environ, "GITHUB_SHA": "f00"}).commit == "f00"


def test_outside_a_clone_there_is_no_repository(tmp_path):
    assert Repository.of(tmp_path, {}) is None


def test_addresses():
    assert HERE.site == SITE
    assert Repository("Some/some.github.io", "").site == "https://some.github.io/"
    assert HERE.colab("setup") == (
        "https://colab.research.google.com/github/Someone/neural-odes/blob/gh-pages/notebooks/setup.ipynb"
    )


@pytest.mark.parametrize("repository", [HERE, None])
def test_buttons(repository, monkeypatch):
    monkeypatch.setattr("colab.the_book", lambda: SimpleNamespace(pages=BOOK.pages, repository=repository))
    group = {"label": "download-buttons", "buttons": [{"text": ".md"}]}
    for page in ("setup", "references", "search"):
        context = {"header_buttons": [group], "pathto": lambda path, resource: f"../{path}"}
        group["buttons"] = [{"text": ".md"}]
        add_buttons(None, page, "page.html", context, None)
        urls = [button.get("url") for button in [*context["header_buttons"], *group["buttons"]]]
        colab = [HERE.colab(page)] if repository else []
        assert urls == ([*colab, None, "../notebooks/setup.ipynb", None] if page == "setup" else [None, None])


# The first cell


@pytest.fixture
def run_first_cell(monkeypatch, tmp_path):
    """Run the cell where odelib lies in the folder `package` (or nowhere); return the commands that it gave."""

    def run_first_cell(url, package=None):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("ODELIB_RESULTS", raising=False)
        given = []
        spec = package and SimpleNamespace(origin=str(package / "odelib" / "__init__.py"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

        def run(command, check):
            assert check
            given.append(command)
            if "clone" in command:
                (tmp_path / "neural-odes" / "book").mkdir(parents=True)

        monkeypatch.setattr(subprocess, "run", run)
        exec(first_cell(url, "c0ffee"), {})
        return given

    return run_first_cell


def test_the_first_cell_does_nothing_in_a_clone(run_first_cell, tmp_path):
    assert run_first_cell("https://github.com/a/b", package=ROOT) == []
    assert Path.cwd() == tmp_path and "ODELIB_RESULTS" not in os.environ


def test_the_first_cell_gets_the_published_commit_once(run_first_cell, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"  # odelib is there, its records are not
    clone, checkout, install = map(list, run_first_cell("https://github.com/a/b", package=installed))
    assert clone[:2] == ["git", "clone"] and clone[-2:] == ["https://github.com/a/b", "neural-odes"]
    assert checkout[-1] == "c0ffee"
    assert install == [sys.executable, "-m", "pip", "install", "--quiet", "./neural-odes[pages]"]
    assert Path.cwd() == tmp_path / "neural-odes" / "book"
    assert os.environ["ODELIB_RESULTS"] == str(tmp_path / "neural-odes" / "book" / "results")
    exec(first_cell("https://github.com/a/b", "c0ffee"), {})  # the same cell again in the same kernel
    assert Path.cwd() == tmp_path / "neural-odes" / "book"
    (again,) = run_first_cell("https://github.com/a/b", package=installed)  # a fresh kernel beside the clone
    assert list(again) == install


def test_the_first_cell_says_what_to_do_where_no_repository_is_known(run_first_cell, tmp_path):
    with pytest.raises(ImportError, match="pip install -e"):
        run_first_cell(None)
    assert run_first_cell(None, package=ROOT) == []


# All of it


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """A fresh environment outside the repository in which the first cell has been run: its Python, and its variables.

    It sees the packages that are installed here, as Colab has its own: not odelib, where that is editable, and
    none of the tools that make the book.
    """
    folder = tmp_path_factory.mktemp("colab")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (purelib,) = folder.glob("venv/lib/python*/site-packages")
    hide = "import sys; sys.modules.update(jupyter_book=None, myst_nb=None, sphinx=None)"
    (purelib / "packages.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{hide}\n")
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "ODELIB_RESULTS")}
    environ["PATH"] = os.pathsep.join([str(python.parent), environ["PATH"]])
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True)
    report = "import odelib.records; print(odelib.__file__, odelib.records.RESULTS, sep='\\n')"
    code = f"{first_cell(ROOT.as_uri(), commit.stdout.strip())}\n{report}"
    done = subprocess.run([python, "-c", code], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    package, results = map(Path, done.stdout.splitlines()[-2:])
    assert package.is_relative_to(purelib) and results.is_relative_to(folder) and results.is_dir()
    return python, {**environ, "ODELIB_RESULTS": str(results)}, results.parent


@pytest.mark.notebooks
@pytest.mark.parametrize("page", PAGES)
def test_a_notebook_runs_from_an_installed_package(page, colab, tmp_path):
    python, environ, cwd = colab
    path = tmp_path / f"{page}.ipynb"
    nbformat.write(notebook(BOOK, page, {}, first_cell("unused")), path)
    run = f"""
import sys, nbformat
sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
from notebook_client import NotebookClient
made = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(made, timeout=300).execute()
"""
    done = subprocess.run([python, "-c", run, path], cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

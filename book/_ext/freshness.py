"""Read (and so run) a page again when what it computes with has changed: the modules of odelib that it imports, be it
through others, the samples, the records, the scripts of its figures.

Sphinx looks only at the page's own file, so that without this a warm build would show old results without a word.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig

import odelib
from odelib import sources

ROOT = Path(__file__).parents[2]
PATTERNS = (
    "odelib/samples/*.npz",
    "book/figures/*",
    "book/results/**/*.json",
    "book/results/**/*.safetensors",
    "book/results/**/*.txt",
)


def modules(page: str) -> set[str]:
    """The modules of odelib that a page's code computes with; `odelib` as a command is all of them."""
    found: set[str] = set()
    for cell in read_myst_markdown_notebook(page, MdParserConfig(enable_extensions={"colon_fence"})).cells:
        if cell.cell_type != "code":
            continue
        lines = cell.source.splitlines()
        if any(line.startswith(("!", "%%")) for line in lines):  # a shell
            found |= sources.imported("odelib.cli")
        if not cell.source.startswith("%%"):
            code = "\n".join(line for line in lines if not line.startswith(("!", "%")))
            found |= {module for name in _named(ast.parse(code)) for module in sources.imported(name)}
    return found


def _named(tree: ast.AST) -> Iterator[str]:
    """The modules that import statements name; what stands in `odelib` itself is fetched from its home."""
    yield from sources.imports(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "odelib":
            yield from (f"odelib.{odelib.HOME[alias.name]}" for alias in node.names if alias.name in odelib.HOME)


def depend_on_sources(app, docname, source):
    if "{code-cell}" not in source[0]:
        return
    paths = [sources.file(module) for module in modules(source[0])]
    paths += [path for pattern in PATTERNS for path in ROOT.glob(pattern)]
    for path in paths:
        app.env.note_dependency(str(path))


def setup(app):
    app.connect("source-read", depend_on_sources)
    return {"parallel_read_safe": True}

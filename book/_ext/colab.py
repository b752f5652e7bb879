"""Each page with code as a notebook: in the site, to download, and open in Colab."""

import ast
import functools
import json
import textwrap
from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from plain_markdown import Book, ConversionError, Converter
from repository import Repository
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[2]
HIDDEN = {"remove-cell", "remove-input", "hide-cell", "hide-input"}
FORM = {"cellView": "form", "jupyter": {"source_hidden": True}}  # the code is folded away, in Colab and in JupyterLab


def has_code(text: str) -> bool:
    return "{code-cell}" in text


def notebook(book: Book, page: str, values: dict[str, str], first_cell: str) -> nbformat.NotebookNode:
    """A page of the book as a notebook, without outputs: they belong to the machine that runs it.

    `values` are what its cells handed to the prose, as Converter takes them. Raises ConversionError.
    """
    config = MdParserConfig(enable_extensions=set(book.extensions))
    source = read_myst_markdown_notebook(book.pages[page], config, add_source_map=True)
    lines = book.pages[page].splitlines()
    converter = Converter(book, page, values)
    cells = [nbformat.v4.new_code_cell(first_cell, metadata=FORM)]
    for cell, line in zip(source.cells, source.metadata.pop("source_map")):
        if cell.cell_type == "markdown":
            while not lines[line].strip():
                line += 1
            cells.append(nbformat.v4.new_markdown_cell(converter.convert(cell.source, line + 1)))
        else:
            tags = cell.metadata.get("tags", [])
            metadata = {"tags": tags} if tags else {}
            cells.append(nbformat.v4.new_code_cell(cell.source, metadata=metadata | (FORM if HIDDEN & {*tags} else {})))
            caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
            if caption:
                cells.append(nbformat.v4.new_markdown_cell("*" + converter.convert(caption, line + 1) + "*"))
    cells = [cell for cell in cells if cell.source]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # nbformat's own are random: the same page should give the same file
    source.metadata.pop("jupytext", None)
    return nbformat.v4.new_notebook(cells=cells, metadata=source.metadata)


def first_cell(url: str | None, commit: str = "") -> str:
    """The cell that gets odelib, with the book's records and weights, from the repository at `url`."""
    head = """\
        #@title Get odelib and the book's records. Where both are at hand, this does nothing.
        import importlib, importlib.util, os, subprocess, sys

        package = importlib.util.find_spec("odelib")
        beside = package and os.path.join(os.path.dirname(package.origin), "..", "book", "results")
        if not (package and (os.path.exists(beside) or "ODELIB_RESULTS" in os.environ)):
        """
    if url is None:
        rest = """\
            raise ImportError("odelib and the book's records are not here: clone the book's repository, "
                              "run `pip install -e .` in it, and open this notebook again")
        """
    else:
        rest = f"""\
            def run(*command):
                subprocess.run(command, check=True)

            if not os.path.exists("neural-odes"):
                run("git", "clone", "--quiet", "--single-branch", "{url}", "neural-odes")
                run("git", "-C", "neural-odes", "checkout", "--quiet", "{commit}")
            # The requirements are lower bounds, so that Colab's own PyTorch stays.
            run(sys.executable, "-m", "pip", "install", "--quiet", "./neural-odes[pages]")
            importlib.invalidate_caches()
            os.chdir("neural-odes/book")
            os.environ["ODELIB_RESULTS"] = os.path.abspath("results")
        """
    return textwrap.dedent(head) + textwrap.indent(textwrap.dedent(rest), "    ").rstrip()


@functools.cache
def the_book() -> Book:
    return Book.read(ROOT, Repository.of(ROOT))


def glued(app, page: str) -> dict[str, str]:
    """What the page's cells handed to the prose when they ran last."""
    path = Path(app.env.mystnb_config.output_folder, f"{page}.glue.json")
    if not path.exists():
        return {}
    outputs = json.loads(path.read_text(encoding="utf-8"))
    return {key: ast.literal_eval(output["data"]["text/plain"]) for key, output in outputs.items()}


def write_notebooks(app, exception):
    if exception or app.builder.name != "html":
        return
    book = the_book()
    first = first_cell(book.repository.url, book.repository.commit) if book.repository else first_cell(None)
    folder = Path(app.outdir, "notebooks")
    folder.mkdir(exist_ok=True)
    for page, text in book.pages.items():
        if has_code(text):
            try:
                nbformat.write(notebook(book, page, glued(app, page), first), folder / f"{page}.ipynb")
            except ConversionError as error:
                raise ExtensionError(str(error)) from error


def add_buttons(app, pagename, templatename, context, doctree):
    """Put both buttons into the header that the theme has made."""
    if not has_code(the_book().pages.get(pagename, "")):
        return
    buttons = context["header_buttons"]
    address = context["pathto"](f"notebooks/{pagename}.ipynb", 1)
    download = {"type": "link", "url": address, "text": ".ipynb", "icon": "fas fa-code", "tooltip": "Download notebook"}
    for group in buttons:
        if group.get("label") == "download-buttons":
            group["buttons"].insert(0, download)
    if repository := the_book().repository:
        launch = {"type": "link", "url": repository.colab(pagename), "text": "Colab", "icon": "fas fa-rocket me-1"}
        buttons.insert(0, launch | {"tooltip": "Open in Colab"})


def setup(app):
    app.connect("html-page-context", add_buttons, priority=600)  # after the theme, which makes the list
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True}

"""In the code of a page, names imported from odelib lead to their entry on the page of the package.

The cells of a page share their names, as they do when they run: what one of them gives another meaning is not linked.
Nor is what an excerpt in the text gives another meaning, within that excerpt.
"""

import ast
import re
from collections.abc import Callable, Iterator
from html import unescape

import odelib

CELL = "ipython3"
BLOCK = re.compile(r'<div class="highlight-(ipython3|python) [^>]*>.*?</pre>', re.DOTALL)
# No attribute of something else, and no keyword of a call.
NAME = re.compile(r'(?<!<span class="o">\.</span>)(<span class="n">(\w+)</span>)(?!<span class="o">=</span>)')


def code(block: str) -> ast.Module:
    """The Python that a block of HTML shows; nothing where it is none: a line for the shell, half a statement."""
    try:
        return ast.parse(unescape(re.sub(r"<[^>]+>", "", block)))
    except SyntaxError:
        return ast.Module([], [])


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that it imports from odelib, each with its full name, which begins with its module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "odelib":
            for alias in node.names:
                home = odelib.HOME.get(alias.name) if node.module == "odelib" else None
                module = f"odelib.{home}" if home else node.module
                yield alias.asname or alias.name, f"{module}.{alias.name}"


def meanings(tree: ast.Module) -> Iterator[str]:
    """The names that it gives a meaning: variables, arguments, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def with_links(body: str, address: Callable[[str], str | None]) -> str:
    """The HTML of a page, where names of odelib that have an address lead there, once in every block."""
    trees = {block[0]: code(block[0]) for block in BLOCK.finditer(body)}
    names = {name: address(full) for tree in trees.values() for name, full in imports(tree)}
    for block in BLOCK.finditer(body):
        if block[1] == CELL:
            for name in meanings(trees[block[0]]):
                names.pop(name, None)

    def linked(block: re.Match) -> str:
        left = names.copy()
        for name in meanings(trees[block[0]]):
            left.pop(name, None)

        def link(name: re.Match) -> str:
            there = left.pop(name[2], None)
            return f'<a class="code-link" href="{there}">{name[1]}</a>' if there else name[0]

        return NAME.sub(link, block[0])

    return BLOCK.sub(linked, body)


def add_links(app, pagename, templatename, context, doctree):
    if doctree is None or app.builder.name != "html":
        return
    entries = app.env.domains["py"].objects

    def address(full: str) -> str | None:
        entry = entries.get(full)
        return entry and f"{app.builder.get_relative_uri(pagename, entry.docname)}#{entry.node_id}"

    context["body"] = with_links(context["body"], address)


def setup(app):
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True}

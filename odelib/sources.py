"""Which code a figure was made with: the commit, and a digest of the sources that it depends on."""

import ast
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent  # the package
NAME = ROOT.name


@functools.cache
def commit() -> str | None:
    """The commit of this clone, with a + behind it where the package differs from it; None outside of a clone."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if not head or not _git("ls-files", "__init__.py"):  # no clone, or the package lies in a clone of something else
        return None
    changed = _git("status", "--porcelain", "--", ".")
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    """What git prints about the folder of the package, or nothing where it fails."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def digest(module: str, root: Path = ROOT) -> str:
    """A digest of the syntax of a module and of all modules of the package that it imports, directly or through others.

    Comments, docstrings and layout are not in it, so that it stays when only words change. `root` is the folder of the
    package.
    """
    code = [f"{name}\n{_code(_text(name, root))}" for name in sorted(imported(module, root))]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def imported(module: str, root: Path = ROOT) -> set[str]:
    """The modules of the package that `module` imports, itself among them."""
    found, left = set(), [module]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += imports(_parsed(_text(name, root)), root)
    return found


def imports(tree: ast.AST, root: Path = ROOT) -> Iterator[str]:
    """The modules of the package that are named in import statements, wherever these stand.

    A name that a package's `__init__` defines counts as that file. Raises ValueError for a relative import.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError("relative imports are not followed; name the module in full")
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if file(name, root) else node.module for name in below]
        else:
            continue
        # The package itself only lists names, and changes with every version.
        yield from (name for name in names if name != NAME and file(name, root))


def file(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module of the package; None for others."""
    first, *rest = module.split(".")
    if first != NAME:
        return None
    path = root.joinpath(*rest)
    return next((found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()), None)


def _text(module: str, root: Path) -> str:
    path = file(module, root)
    if path is None:
        raise ValueError(f"{module} is no module of {NAME}")
    return path.read_text(encoding="utf-8")


@functools.cache
def _parsed(text: str) -> ast.AST:
    return ast.parse(text)


@functools.cache
def _code(text: str) -> str:
    return _syntax(_parsed(text))


def _syntax(node: object) -> str:
    """A syntax tree as text, without docstrings. ast.dump has another text in every version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(map(_syntax, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr):  # some Pythons put empty texts between its parts
            value = [part for part in value if getattr(part, "value", None) != ""]
        if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            value = value[ast.get_docstring(node, clean=False) is not None :]
        if value is not None and value != []:  # newer versions have further fields, which are mostly empty
            parts.append(f"{name}={_syntax(value)}")
    return f"{type(node).__name__}({','.join(parts)})"

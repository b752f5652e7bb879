"""Sources: a digest that changes with the code of a figure and not with its words, and the commit of a clone."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from odelib import HOME, sources
from odelib.measurements import MEASUREMENTS
from odelib.sources import digest, imported, imports

MODULES = [how.module for how in MEASUREMENTS.values()]


@pytest.fixture
def package(tmp_path) -> Path:
    """A copy of odelib's code."""
    return Path(
        shutil.copytree(sources.ROOT, tmp_path / "odelib", ignore=shutil.ignore_patterns("*.npz", "__pycache__"))
    )


def digests(root) -> dict[str, str]:
    return {module: digest(module, root) for module in MODULES}


# What a digest notices


def test_a_copy_has_the_same_digest_and_every_measurement_its_own(package):
    assert digests(package) == digests(sources.ROOT)
    assert len(set(digests(package).values())) == len(MODULES)


def test_one_number_in_the_solvers_changes_every_measurement(package):
    before, path = digests(package), package / "solvers.py"
    text = path.read_text(encoding="utf-8")
    number = next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, float))
    lines = text.splitlines(keepends=True)
    line = lines[number.lineno - 1]
    lines[number.lineno - 1] = f"{line[: number.col_offset]}{number.value + 1}{line[number.end_col_offset :]}"
    path.write_text("".join(lines), encoding="utf-8")
    after = digests(package)
    assert all(after[module] != before[module] for module in MODULES)


def test_other_words_and_another_layout_change_nothing(package):
    """Every file is written anew: without comments, in another layout, with other docstrings."""
    before = digests(package)
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                node.body[0].value.value = "Other words."
        text = ast.unparse(tree)
        assert text != path.read_text(encoding="utf-8")
        path.write_text(f"# A comment.\n{text}\n", encoding="utf-8")
    assert digests(package) == before


def test_a_docstring_that_goes_or_comes_changes_nothing(package):
    before = digests(package)
    path = package / "options.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[text.index("import") :], encoding="utf-8")
    assert text.startswith('"""') and digests(package) == before


@pytest.mark.parametrize("other", ["cli.py", "runs.py", "studies/mnist.py", "book/plots.py", "__init__.py"])
def test_a_module_that_no_measurement_imports_changes_nothing(package, other):
    before = digests(package)
    with (package / other).open("a", encoding="utf-8") as file:
        file.write("\nMORE = 1\n")
    assert digests(package) == before


def test_a_module_of_one_measurement_changes_those_that_import_it(package):
    before = digests(package)
    with (package / "measurements" / "gradient_error.py").open("a", encoding="utf-8") as file:
        file.write("\nMORE = 1\n")
    after = digests(package)
    changed = {module.rpartition(".")[2] for module in MODULES if after[module] != before[module]}
    assert changed == {"gradient_error", "loss_scale", "backward_tolerance", "work_precision", "figure_3", "benchmark"}


@pytest.mark.parametrize(
    "first, second",
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = 1", "y = 1"),
        ("x = -1", "x = 1"),
        ("x = a < b", "x = a <= b"),
        ("f(a, b)", "f(b, a)"),
        ("a = 1; b = 2", "b = 2; a = 1"),
        ("def f(): return", "def f(): return None"),
        ("def f(a=None): pass", "def f(a): pass"),
        ("def f(a, *, b): pass", "def f(a, b): pass"),
        ("x[None:]", "x[:]"),
        ("f'{x:.2f}'", "f'{x:.3f}'"),
        ("f'{x!r}'", "f'{x}'"),
        ("f'{x}'", "f'{x} '"),
        ("def f():\n 'Words.'\n return 'a'", "def f():\n 'Words.'\n return 'b'"),
        ("@a\ndef f(): pass", "def f(): pass"),
    ],
)
def test_other_code_is_another_digest(tmp_path, first, second):
    found = set()
    for text in (first, second):
        (tmp_path / "odelib").mkdir(exist_ok=True)
        (tmp_path / "odelib" / "m.py").write_text(text)
        found.add(digest("odelib.m", tmp_path / "odelib"))
    assert len(found) == 2


def test_empty_parts_of_a_formatted_text_do_not_count():
    """Python 3.12.1 puts one behind the width, other versions do not: the digest must be the same."""
    plain, padded = (ast.parse("f'{name:{width}} more'") for _ in range(2))
    specification = next(n for n in ast.walk(padded) if isinstance(n, ast.FormattedValue)).format_spec
    specification.values.append(ast.Constant(""))
    assert ast.dump(plain) != ast.dump(padded) and sources._syntax(plain) == sources._syntax(padded)


# What it follows


@pytest.fixture
def tree(tmp_path) -> Path:
    """A package whose module m imports others in every way."""
    root = tmp_path / "odelib"
    files = {
        "__init__.py": "VERSION = 1",
        "m.py": """
            import torch
            import odelib
            import odelib.a.by_import
            from odelib import sibling, VERSION
            from odelib.a import module, name
            from odelib.b import late as other

            def f():
                from odelib.within import g
                if g:
                    import odelib.b.deep, numpy.linalg
            """,
        "sibling.py": "import odelib.of_sibling",
        "of_sibling.py": "import odelib.m",  # a circle
        "within.py": "g = 1",
        "unused.py": "",
        "a/__init__.py": "from odelib.a.inside import name",
        "a/inside.py": "name = 1",
        "a/by_import.py": "",
        "a/module.py": "",
        "a/unused.py": "",
        "b/__init__.py": "import odelib.unused",
        "b/late.py": "",
        "b/deep.py": "",
        "b/unused.py": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line[12:] if line[:12].isspace() else line for line in text.splitlines()))
    return root


FOLLOWED = {
    "m", "sibling", "of_sibling", "within", "a", "a.inside", "a.by_import", "a.module", "b.late", "b.deep",
}  # fmt: skip


def test_imports_are_followed_wherever_they_stand(tree):
    """Modules and packages that names are taken from; a package whose modules alone are meant only lists them."""
    assert imported("odelib.m", tree) == {f"odelib.{name}" for name in FOLLOWED}


def test_the_digest_changes_with_each_of_them_and_with_no_other(tree):
    before = digest("odelib.m", tree)
    for path in sorted(tree.rglob("*.py")):
        name = ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text()
        path.write_text(f"{text}\nMORE = 1")
        assert (digest("odelib.m", tree) != before) is (name in FOLLOWED), name
        path.write_text(text)
    assert digest("odelib.m", tree) == before


def test_what_is_not_followed_is_refused(tree):
    (tree / "m.py").write_text("from . import sibling")
    with pytest.raises(ValueError, match="relative imports are not followed"):
        digest("odelib.m", tree)
    for name in ("odelib.nowhere", "torch", "odelib.a.nowhere"):
        with pytest.raises(ValueError, match=f"{name} is no module of odelib"):
            digest(name, tree)


def test_no_module_hides_an_import_from_the_digest():
    """Names that the package fetches when they are first used would not be followed, nor modules named in a text."""
    for path in sources.ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        list(imports(tree))  # refuses relative ones
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "odelib":
                assert not {alias.name for alias in node.names} & HOME.keys(), path
        if path != sources.ROOT / "__init__.py":
            assert "import_module" not in path.read_text(encoding="utf-8"), path


# The commit


@pytest.fixture
def commit(monkeypatch):
    """`commit` for a package in this folder, asked anew."""

    def ask(root):
        monkeypatch.setattr(sources, "ROOT", root)
        sources.commit.cache_clear()
        try:
            return sources.commit()
        finally:
            sources.commit.cache_clear()

    return ask


def git(folder, *words) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with one commit, and a package in it."""
    root = tmp_path / "clone"
    (root / "odelib").mkdir(parents=True)
    for name in ("odelib/__init__.py", "README.md"):
        (root / name).write_text("1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_commit_is_that_of_the_clone(clone, commit):
    found = commit(clone / "odelib")
    assert len(found) == 12 and git(clone, "rev-parse", "HEAD").startswith(found)


@pytest.mark.parametrize("name, changes", [("odelib/__init__.py", True), ("odelib/new.py", True), ("README.md", False)])
def test_a_package_that_was_changed_has_a_plus_behind_its_commit(clone, commit, name, changes):
    (clone / name).write_text("2\n")
    head = git(clone, "rev-parse", "--short=12", "HEAD")
    assert commit(clone / "odelib") == (f"{head}+" if changes else head)
    git(clone, "add", ".")
    assert commit(clone / "odelib") == (f"{head}+" if changes else head)


def test_outside_of_a_clone_there_is_no_commit(tmp_path, commit):
    (tmp_path / "odelib").mkdir()
    (tmp_path / "odelib" / "__init__.py").touch()
    assert commit(tmp_path / "odelib") is None


@pytest.mark.parametrize("ignored", [True, False])
def test_in_a_clone_of_something_else_there_is_no_commit(clone, commit, ignored):
    """As in a virtual environment that lies in a repository of the user's own."""
    site = clone / "venv" / "odelib"
    shutil.copytree(clone / "odelib", site)
    if ignored:
        (clone / ".gitignore").write_text("venv\n")
    assert commit(site) is None


def test_in_a_clone_without_a_commit_there_is_none(tmp_path, commit):
    (tmp_path / "odelib").mkdir()
    (tmp_path / "odelib" / "__init__.py").touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    assert commit(tmp_path / "odelib") is None


def test_without_git_there_is_no_commit(clone, commit, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit(clone / "odelib") is None


def test_the_commit_is_asked_for_once(clone, commit, monkeypatch):
    """Code that is running does not change with what is committed meanwhile."""
    monkeypatch.setattr(sources, "ROOT", clone / "odelib")
    sources.commit.cache_clear()
    first = sources.commit()
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "second")
    assert sources.commit() == first != commit(clone / "odelib")

"""The page about the package names every module once, and nothing that is not there."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import odelib

PAGE = (Path(__file__).parent.parent / "book" / "api.md").read_text(encoding="utf-8")
NAMED = re.findall(r"^\.\. auto(\w+):: (\S+)$", PAGE, re.MULTILINE)
PROGRAMS = {"odelib.__main__", "odelib.samples.make"}  # run, not imported


def test_every_module_stands_there_once():
    modules = [name for kind, name in NAMED if kind == "module"]
    there = {module.name for module in pkgutil.walk_packages(odelib.__path__, "odelib.")} - PROGRAMS
    assert sorted(modules) == sorted(there)


@pytest.mark.parametrize("name", [name for kind, name in NAMED if kind != "module"])
def test_what_is_named_is_there_and_says_what_it_is(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(import_module(module), attribute)
    assert found.__module__ == module and found.__doc__


def test_no_name_is_documented_twice():
    names = [name for _, name in NAMED]
    assert len(names) == len(set(names))

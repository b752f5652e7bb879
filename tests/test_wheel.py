"""The wheel, installed in an empty environment: it has its samples, trains, and leaves its own folder alone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.weekly
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs Python outside of the repository, in an environment of the wheel, and of the packages that it needs."""
    folder = tmp_path_factory.mktemp("elsewhere")
    sources = folder / "sources"  # a build leaves files there
    shutil.copytree(ROOT / "odelib", sources / "odelib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    names = os.environ.keys() - {"PYTHONPATH", "ODELIB_RESULTS", "ODELIB_DATA"}
    environ = {**{name: os.environ[name] for name in names}, "HOME": str(folder)}
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = folder / "wheels"
    subprocess.run([sys.executable, *pip, "wheel", "--no-deps", "-w", wheels, sources], env=environ, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, *pip, "install", "--no-deps", *wheels.iterdir()], env=environ, check=True)
    (purelib,) = folder.glob("venv/lib/python*/site-packages")
    (purelib / "packages.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")

    def run(*words):
        done = subprocess.run([python, *words], cwd=folder, env=environ, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    place = Path(run("-c", "import odelib; print(odelib.__file__)")[1].strip()).parent
    assert place == purelib / "odelib"
    before = {path for path in purelib.rglob("*") if path.suffix != ".pyc"}
    yield run
    assert {path for path in purelib.rglob("*") if path.suffix != ".pyc"} == before


def test_the_samples_are_in_it_and_a_network_trains_on_one(installed):
    for name in ("mnist-sample", "fashion-mnist-sample", "cifar10-sample"):
        code, said, wrong = installed("-m", "odelib", "data", name)
        assert code == 0 and "all" in said, wrong
    words = "--dataset mnist-sample --train-images 64 --network none --stem one-shot --width 8 --epochs 1 --name a"
    code, said, wrong = installed("-m", "odelib", "train", *words.split(), "--device", "cpu", "--out", "mine")
    assert code == 0 and "record mine/a-seed0.json, weights mine/a-seed0.safetensors" in said, wrong
    code, said, wrong = installed("-m", "odelib", "show", "mine/a-seed0.json")
    assert code == 0 and "(outside of a clone)" in said, wrong
    code, said, wrong = installed("-m", "odelib", "evaluate", "mine/a-seed0.safetensors", "--device", "cpu")
    assert code == 0 and re.search("mnist-sample: accuracy .* of 1,000 test images", said), wrong


def test_a_study_asks_where_its_records_go(installed):
    asked = "odelib: there is no clone of the book here, which has a folder for records; add --out FOLDER\n"
    assert installed("-m", "odelib", "study", "speed") == (2, "", asked)
    code, said, _ = installed("-m", "odelib", "study", "speed", "--status", "--out", "mine")
    assert code == 0 and "missing: " in said

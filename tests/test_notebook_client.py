"""The kernels of the build: on sockets that nobody else can reach, without a warning, with nothing left behind."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="the book's tools are not installed: pip install -e '.[book]'")

import nbformat

sys.path.insert(0, str(Path(__file__).parent.parent / "book" / "_ext"))
from notebook_client import NotebookClient

CODE = """
import sys, time
from ipykernel import get_connection_info
info = get_connection_info(unpack=True)
print(info["transport"], info["ip"])
print(1, end=" ", flush=True)
time.sleep(0.1)
print(2)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run CODE as the build does, with temporary files in a folder, and return what it printed."""

    def run(folder):
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(tempfile, "tempdir", str(folder))
            NotebookClient(made, timeout=60, kernel_name="python3").execute()
        (output,) = made.cells[0].outputs
        return output.text

    return run


@pytest.mark.skipif(os.name != "posix", reason="no sockets with paths")
def test_a_kernel_is_reached_by_private_sockets_without_a_warning(run, tmp_path, capfd):
    with tempfile.TemporaryDirectory() as folder:  # tmp_path may be too long for sockets
        address, numbers = run(folder).splitlines()
        assert address.startswith(f"ipc {folder}/") and numbers == "1 2"
        assert os.listdir(folder) == [] and list(tmp_path.iterdir()) == []
    assert "WARNING" not in capfd.readouterr().err


def test_where_the_path_of_a_socket_would_be_too_long_tcp_remains(run, tmp_path):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert run(folder).startswith("tcp ")
    assert list(folder.iterdir()) == []

"""The log of torchdiffeq's own script: what is stored, and how it is read and made."""

import pytest
import torch

from odelib.book import original_script
from odelib.book.original_script import ARGUMENTS, LOG, numbers, read_log, run_script, write_idx


def test_the_stored_log_is_that_of_a_whole_run_with_the_adjoint():
    head, lines = read_log()
    assert "--nepochs 2 --adjoint True" in head and "torchdiffeq" in head and "/" not in head.split("(sha256")[0]
    assert [line.epoch for line in lines] == [0, 1]
    assert lines[0].test_accuracy < 0.5 < 0.9 < lines[1].test_accuracy  # after 1 step, and after 469
    assert all(line.nfe_forward >= 14 and line.nfe_backward >= 14 for line in lines)
    assert "Number of parameters: 208266" in LOG.read_text(encoding="utf-8")


def test_the_numbers_of_the_page_are_those_of_the_log(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    path.write_text(
        "python script\nhere\n\nNamespace()\n"
        "Epoch 0000 | Time 1.234 (1.200) | NFE-F 20.0 | NFE-B 26.0 | Train Acc 0.1250 | Test Acc 0.2500\n"
    )
    monkeypatch.setattr(original_script, "read_log", lambda: read_log(path))
    assert numbers() == {
        "log-environment": "here",
        "log-time-0": "1.20",
        "log-forward-0": "20.0",
        "log-backward-0": "26.0",
        "log-train-0": "12.50%",
        "log-test-0": "25.00%",
    }


def test_images_are_written_as_torchvision_reads_them(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets.mnist")
    images = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    write_idx(tmp_path / "images", images)
    assert datasets.read_image_file(str(tmp_path / "images")).tolist() == images.tolist()
    write_idx(tmp_path / "labels", torch.tensor([7, 9]))
    assert datasets.read_label_file(str(tmp_path / "labels")).tolist() == [7, 9]


def test_a_script_runs_in_a_folder_of_its_own_and_what_it_says_after_its_source_is_kept(tmp_path, monkeypatch, sample):
    monkeypatch.setattr(original_script, "load_dataset", lambda *_: sample)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nprint(open(sys.argv[0]).read())\nprint(sys.argv[1:], os.listdir('.data/mnist'))\n"
    )
    (tmp_path / "work").mkdir()
    assert run_script(script, tmp_path / "work") == f"{list(ARGUMENTS)} ['MNIST']"

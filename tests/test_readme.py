"""The README quotes results, which must be those of the records, and code and commands, which must work."""

import re
import shlex
from pathlib import Path

import pytest

import odelib.commands
from odelib import cli
from odelib.studies import STUDIES
from odelib.studies.summary import mean_and_range

README = Path(__file__).parent.parent / "README.md"


def row(case, runs):
    last = [run.last for run in runs]
    accuracy = mean_and_range([100 * m.test_accuracy for m in last])
    nfe = [sum(values) / len(values) for values in ([m.nfe_forward for m in last], [m.nfe_backward for m in last])]
    return f"| {case} | {runs[0].parameters:,} | {len(runs)} | {accuracy} | {nfe[0]:.1f} + {nfe[1]:.1f} |"


@pytest.mark.parametrize("name", ["mnist-gradients", "cifar10-full"])
def test_the_results_are_those_of_the_records(name):
    text = README.read_text(encoding="utf-8")
    study = STUDIES[name].runs()
    assert study
    for case, runs in study.items():
        assert row(case, runs) in text


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_example_of_a_network_of_ones_own_runs(tiny, monkeypatch, capsys):
    """On few images, with an f, a network and an optimiser that are not odelib's."""
    (example,) = blocks("python")
    monkeypatch.setattr("odelib.data.load_dataset", lambda name: {"mnist-sample": tiny}[name])
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]
    assert all("NFE  4.0 +  4.0" in line for line in lines)


def commands():
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("odelib ")]


def test_there_are_commands_of_every_kind():
    assert {words[0] for words in commands()} == {"train", "evaluate", "data", "show", "study", "benchmark"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_is_understood(words, monkeypatch):
    called = []
    for name in ("Train", "Evaluate", "Data", "Show", "Study", "Benchmark"):
        monkeypatch.setattr(
            getattr(odelib.commands, name), "__call__", lambda self: called.append(type(self).__name__.lower())
        )
    assert cli.main(words) == 0
    assert called == [words[0]]

"""The README quotes results: every number must be that of a record."""

from pathlib import Path

from odelib import load_study

README = Path(__file__).parent.parent / "README.md"


def row(case, run):
    return f"| {case} | {run.parameters:,} | {run.last.test_accuracy:.2%} | {run.last.nfe_forward:.1f} + {run.last.nfe_backward:.1f} |"


def test_the_results_are_those_of_the_records():
    text = README.read_text(encoding="utf-8")
    study = load_study("mnist-gradients")
    assert study
    for case, runs in study.items():
        assert row(case, runs[0]) in text

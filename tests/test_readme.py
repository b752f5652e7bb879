"""The README quotes results: every number must be that of the records."""

from pathlib import Path

import pytest

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

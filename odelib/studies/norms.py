"""BatchNorm in f: which statistics bring back the points that a network loses with it?

One run of `cifar10-full` that is made once more, since its weights were not kept. Protocol: after the last epoch, and
with these weights, f normalises with other statistics than the running ones (`norm_statistics`), and the network is
tested. If a set that is estimated anew brings the points back, the running ones were at fault; if only a set for each
evaluation does, the average over the evaluations. Those of the test batch, by which an image sees the others, do not
tell these two apart. After a first look, which had the first four of `KINDS`, the others were added: which evaluation
is it, and which norm?
"""

from odelib.measurements.norm_statistics import (
    ANEW,
    BATCH,
    BY_STAGE,
    FIRST,
    NORM_1,
    RUNNING,
    NormStatistics,
    NormTest,
    of_stage,
)
from odelib.studies.cifar10 import FULL, TEST_IMAGES
from odelib.studies.statistics import apart_share_interval
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, Table, mean, mean_and_range, signed, with_interval

BATCH_NORM = "odenet-norm-batch"
NORMS = Study(
    "cifar10-norms",
    "Which statistics bring back what BatchNorm in f loses?",
    {BATCH_NORM: Case(FULL[BATCH_NORM])},
)

KINDS = {
    RUNNING: "the running ones, as training left them",
    ANEW: "one set, estimated anew after training",
    BY_STAGE: "a set for each evaluation of a solve, estimated anew",
    BATCH: "those of the test batch, as in training",
    FIRST: "its own set for the first evaluation, the common set for the others",
    NORM_1: "a set for each evaluation in norm 1, one set in the other norms",
    of_stage(0): "the set of the first evaluation for all",
    of_stage(1): "the set of the second evaluation for all",
    of_stage(2): "the set of the third evaluation for all",
    of_stage(3): "the set of the last evaluation for all",
}


def accuracies(record: NormStatistics, kind: str) -> list[float]:
    """Test accuracy in percent of every network with these statistics."""
    return [100 * row.accuracy for row in record.tests if row.statistics == kind]


def norm_table(record: NormStatistics) -> Table:
    """Test accuracy by the statistics that f normalises with."""
    rows = [[words, mean_and_range(accuracies(record, kind), 1)] for kind, words in KINDS.items()]
    return ["statistics in f", "test accuracy, %"], rows


def norm_numbers(record: NormStatistics, group: Runs) -> dict[str, str]:
    """What some kinds bring over the running statistics, in points; with a set for each evaluation, the difference from
    the networks with GroupNorm in `group` that have the same seeds; and how the input of norm 1 grows along a solve."""
    running = accuracies(record, RUNNING)
    gains = {
        name: signed([one - other for one, other in zip(accuracies(record, kind), running)])
        for name, kind in {
            "anew": ANEW,
            "by-stage": BY_STAGE,
            "batch": BATCH,
            "first": FIRST,
            "norm-1": NORM_1,
            "second": of_stage(1),
        }.items()
    }
    return {
        **{f"norms-gain-{name}": gain for name, gain in gains.items()},
        "norms-n": str(len(running)),
        "norms-images": f"{record.train_images:,}",
        "norms-batch-size": str(NORMS.config(BATCH_NORM).batch_size),
        "norms-running": mean_and_range(running, 1),
        "norms-by-stage": mean_and_range(accuracies(record, BY_STAGE), 1),
        "norms-over-group": ", ".join(
            with_interval((100 * share for share in _apart(row, group)), 1)
            for row in record.tests
            if row.statistics == BY_STAGE
        ),
        **{f"norms-scale-{name}": f"{mean(_scales(record, t)):.2f}" for name, t in {"start": 0.0, "end": 1.0}.items()},
    }


def _apart(row: NormTest, group: Runs) -> tuple[float, float, float]:
    """(difference, low, high) from the network with GroupNorm of the same seed: shares, by the test images."""
    (run,) = [run for run in group["odenet"] if run.config.seed == row.seed]
    return apart_share_interval(row.accuracy, run.last.test_accuracy or 0.0, TEST_IMAGES)


def _scales(record: NormStatistics, t: float) -> list[float]:
    """Of every network, the standard deviation that norm 1 sees at this time over that of all evaluations."""
    return [row.scale for row in record.stages if (row.norm, row.t) == (1, t)]

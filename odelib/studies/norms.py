"""BatchNorm in f: which statistics bring back the points that a network loses with it?

One run of `cifar10-full` that is made once more, since its weights were not kept. Protocol: after the last epoch, and
with these weights, f normalises with other statistics than the running ones (`norm_statistics`), and the network is
tested. If a set that is estimated anew brings the points back, the running ones were at fault; if only a set for each
evaluation does, then one set for all. Those of the test batch, by which an image sees the others, do not tell these
two apart.
"""

from odelib.measurements.norm_statistics import ANEW, BATCH, BY_STAGE, RUNNING, NormStatistics
from odelib.studies.cifar10 import FULL
from odelib.studies.study import Case, Study
from odelib.studies.summary import Table, mean_and_range

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
}


def accuracies(record: NormStatistics, kind: str) -> list[float]:
    """Test accuracy in percent of every network with these statistics."""
    return [100 * row.accuracy for row in record.tests if row.statistics == kind]


def norm_table(record: NormStatistics) -> Table:
    """Test accuracy by the statistics that f normalises with."""
    rows = [[words, mean_and_range(accuracies(record, kind), 1)] for kind, words in KINDS.items()]
    return ["statistics in f", "test accuracy, %"], rows


def norm_numbers(record: NormStatistics) -> dict[str, str]:
    """What each kind brings over the running statistics, in points, and how far inputs of norms move along a solve."""
    running = accuracies(record, RUNNING)
    gains = {
        name: mean_and_range([one - other for one, other in zip(accuracies(record, kind), running)], 1)
        for name, kind in {"anew": ANEW, "by-stage": BY_STAGE, "batch": BATCH}.items()
    }
    return {
        **{f"norms-gain-{name}": gain for name, gain in gains.items()},
        "norms-n": str(len(running)),
        "norms-images": f"{record.train_images:,}",
        "norms-batch-size": str(NORMS.config(BATCH_NORM).batch_size),
        "norms-shift": f"{max(row.shift for row in record.stages):.1f}",
        "norms-least-scale": f"{min(row.scale for row in record.stages):.2f}",
        "norms-most-scale": f"{max(row.scale for row in record.stages):.2f}",
    }

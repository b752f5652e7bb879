"""Task 5: what training with the adjoint reports, epoch by epoch. The runs are those of `mnist-gradients`."""

from dataclasses import replace

from odelib.measurements.cross_solver import CrossSolver
from odelib.measurements.inference import Inferences
from odelib.studies.statistics import share_interval
from odelib.studies.summary import Runs, at_the_end, only

TEST_IMAGES = 10_000


def ratios(runs: Runs) -> list[float]:
    """NFE backward over NFE forward, of every epoch of every run with the adjoint."""
    return [m.nfe_backward / m.nfe_forward for run in runs["adjoint-dopri5"] for m in run.metrics]


def rising(runs: Runs) -> int:
    """Of how many runs with the adjoint NFE forward is larger in the last epoch than in the first."""
    return sum(run.last.nfe_forward > run.metrics[0].nfe_forward for run in runs["adjoint-dopri5"])


def numbers(runs: Runs, cross: CrossSolver, inference: Inferences) -> dict[str, str]:
    """What the text says of the first run with the adjoint, also solved by other tolerances, and of the first one with
    the direct gradient beside it.

    Raises ValueError where NFE forward does not rise in all runs with the adjoint, as the text says.
    """
    if rising(runs) != len(runs["adjoint-dopri5"]):
        raise ValueError("NFE forward does not rise in every run")
    run, direct = runs["adjoint-dopri5"][0], runs["direct-dopri5"][0]
    first, last = run.metrics[0], run.last
    reached, reached_directly = at_the_end([run]), at_the_end([direct])
    low, high = share_interval(reached, TEST_IMAGES)
    tested = {
        name: only(cross.rows, case="adjoint-dopri5", seed=0, solver=f"dopri5, {tolerance}")
        for name, tolerance in (("loose", "1e-3"), ("tight", "1e-5"))
    }
    own, loose = (
        only(inference.rows, case="adjoint-dopri5", seed=0, method="dopri5", rtol=rtol) for rtol in (1e-3, 1e-1)
    )
    return {
        "loose-images": f"{inference.images:,}",
        "loose-accuracy": f"{100 * loose.accuracy:.2f}",
        "loose-nfe": f"{loose.nfe:.0f}",
        "own-accuracy": f"{100 * own.accuracy:.2f}",
        **{f"tested-{name}": f"{100 * row.accuracy:.2f}" for name, row in tested.items()},
        **{f"tested-nfe-{name}": f"{row.nfe:.0f}" for name, row in tested.items()},
        "nfe-first": f"{first.nfe_forward:.1f}",
        "nfe-last": f"{last.nfe_forward:.1f}",
        "ratio": f"{last.nfe_backward / last.nfe_forward:.2f}",
        "ratio-low": f"{min(ratios(runs)):.2f}",
        "ratio-high": f"{max(ratios(runs)):.2f}",
        "accuracy": f"{reached:.2%}",
        "wrong": str(round(TEST_IMAGES * (1 - reached))),
        "interval": f"{100 * low:.2f} to {100 * high:.2f}",
        "rising": str(rising(runs)),
        "loss-first": f"{first.train_loss:.2f}",
        "loss-last": f"{last.train_loss:.3f}",
        "train-first": f"{first.train_accuracy:.1%}",
        "train-last": f"{last.train_accuracy:.1%}",
        "test-first": f"{at_the_end([replace(run, metrics=run.metrics[:1])]):.1%}",
        "seconds-first": f"{first.seconds:.0f}",
        "seconds-last": f"{last.seconds:.0f}",
        "back-first": f"{first.nfe_backward:.1f}",
        "back-last": f"{last.nfe_backward:.1f}",
        "lr-first": f"{first.lr:.3f}",
        "lr-last": f"{last.lr:.0e}",
        "direct": f"{reached_directly:.2%}",
        "direct-digits": str(abs(round(TEST_IMAGES * (reached_directly - reached)))),
    }

"""Task 5: what training with the adjoint reports, epoch by epoch. The runs are those of `mnist-gradients`."""

from odelib.studies.summary import Runs, at_the_end, standard_error

TEST_IMAGES = 10_000


def ratios(runs: Runs) -> list[float]:
    """NFE backward over NFE forward, of every epoch of every run with the adjoint."""
    return [m.nfe_backward / m.nfe_forward for run in runs["adjoint-dopri5"] for m in run.metrics]


def numbers(runs: Runs) -> dict[str, str]:
    """What the text says of the first run with the adjoint, and of the first one with the direct gradient beside it."""
    run, direct = runs["adjoint-dopri5"][0], runs["direct-dopri5"][0]
    first, last = run.metrics[0], run.last
    reached, reached_directly = at_the_end([run]), at_the_end([direct])
    return {
        "nfe-first": f"{first.nfe_forward:.1f}",
        "nfe-last": f"{last.nfe_forward:.1f}",
        "ratio": f"{last.nfe_backward / last.nfe_forward:.2f}",
        "ratio-low": f"{min(ratios(runs)):.2f}",
        "ratio-high": f"{max(ratios(runs)):.2f}",
        "accuracy": f"{reached:.2%}",
        "wrong": str(round(TEST_IMAGES * (1 - reached))),
        "se": f"{100 * standard_error(reached, TEST_IMAGES):.2f}",
        "loss-first": f"{first.train_loss:.2f}",
        "train-first": f"{first.train_accuracy:.1%}",
        "direct": f"{reached_directly:.2%}",
        "direct-digits": str(abs(round(TEST_IMAGES * (reached_directly - reached)))),
    }

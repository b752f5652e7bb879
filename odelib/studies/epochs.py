"""Task 5: what training with the adjoint reports, epoch by epoch. The runs are those of `mnist-gradients`."""

from odelib.studies.summary import Runs, standard_error

TEST_IMAGES = 10_000


def ratios(runs: Runs) -> list[float]:
    """NFE backward over NFE forward, of every epoch of every run with the adjoint."""
    return [m.nfe_backward / m.nfe_forward for run in runs["adjoint-dopri5"] for m in run.metrics]


def numbers(runs: Runs) -> dict[str, str]:
    """What the text says of the first run with the adjoint, and of the first one with the direct gradient beside it."""
    run, direct = runs["adjoint-dopri5"][0], runs["direct-dopri5"][0]
    first, last = run.metrics[0], run.last
    return {
        "nfe-first": f"{first.nfe_forward:.1f}",
        "nfe-last": f"{last.nfe_forward:.1f}",
        "ratio": f"{last.nfe_backward / last.nfe_forward:.2f}",
        "ratio-low": f"{min(ratios(runs)):.2f}",
        "ratio-high": f"{max(ratios(runs)):.2f}",
        "accuracy": f"{last.test_accuracy:.2%}",
        "wrong": str(round(TEST_IMAGES * (1 - last.test_accuracy))),
        "se": f"{100 * standard_error(last.test_accuracy, TEST_IMAGES):.2f}",
        "loss-first": f"{first.train_loss:.2f}",
        "train-first": f"{first.train_accuracy:.1%}",
        "direct": f"{direct.last.test_accuracy:.2%}",
        "direct-digits": str(abs(round(TEST_IMAGES * (direct.last.test_accuracy - last.test_accuracy)))),
    }

"""The log of odenet_mnist.py: a running mean into which an evaluation leaks, and how long that is seen."""

from matplotlib.figure import Figure

from odelib.book.plots import COLORS, panels

KEPT = 0.99  # of the running mean, when a new value comes
STEPS = 468  # training steps of an epoch, after which the script evaluates and prints
EVALUATED = 70  # batches that it evaluates: 60 of training and 10 of test images


def after_an_evaluation(per_step: int) -> list[float]:
    """The running mean of NFE-F: before an evaluation, and after each training step of the epoch that follows it.

    Every step takes `per_step` evaluations of f, and the first one is billed for those of the evaluation too.
    """
    history = [float(per_step)]
    for step in range(STEPS):
        billed = per_step * (1 + EVALUATED) if step == 0 else per_step
        history.append(KEPT * history[-1] + (1 - KEPT) * billed)
    return history


def leak_numbers(per_step: int) -> dict[str, str]:
    """The truth, the mean one step after an evaluation, its excess when the script prints next, and what it would print
    if it evaluated every 50 steps."""
    history, every = after_an_evaluation(per_step), 50
    leak = history[1] - per_step
    left = leak * KEPT ** (every - 1) / (1 - KEPT**every)  # of all leaks so far: a geometric series
    return {
        "honest": str(per_step),
        "leak-step": f"{history[1]:.1f}",
        "leak-next": f"{100 * (history[-1] / per_step - 1):.2f} %",
        "leak-50": f"{per_step + left:.1f}",
    }


def leak(per_step: int) -> Figure:
    """`after_an_evaluation`: the mean beside the truth, a dashed line; and its excess, up to the next printed line."""
    history = after_an_evaluation(per_step)
    excess = [100 * (mean / per_step - 1) for mean in history[1:]]
    figure, (left, right) = panels(2, height=2.8)
    left.plot(history, marker="")
    left.axhline(per_step, color=COLORS[1], linestyle="--", marker="")
    left.set(ylabel="running mean of NFE-F", ylim=(0, None))
    right.semilogy(range(1, STEPS + 1), excess, marker="")
    right.semilogy([STEPS], excess[-1:], marker="X", linestyle="none", markersize=8)
    right.set(ylabel="excess (%)")
    for ax in (left, right):
        ax.set(xlabel="training step after the evaluation")
    return figure

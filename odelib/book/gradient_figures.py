"""Figures of gradients: what the adjoint makes of the scale of the loss."""

from matplotlib.figure import Figure

from odelib.book.plots import COLORS, panels
from odelib.measurements.loss_scale import LossScale


def loss_scale(scale: LossScale) -> Figure:
    """NFE backward and the error of the gradient in percent against the size of the adjoint, and against each other.

    Dotted is the absolute tolerance; the grey band reaches from the mean loss of the batch to its sum; the grey line is
    NFE forward.
    """
    figure, axes = panels(3, height=2.9)
    for gradient in ("adjoint", "seminorm"):
        rows = [row for row in scale.rows if row.gradient == gradient]
        x = [row.adjoint_rms for row in rows]
        nfe, error = [row.nfe_backward for row in rows], [100 * row.theta_error for row in rows]
        axes[0].loglog(x, nfe, label=gradient)
        axes[1].loglog(x, error, label=gradient)
        axes[2].loglog(nfe, error, linestyle="none", label=gradient)
    axes[0].axhline(scale.rows[0].nfe_forward, color="gray", linewidth=1, marker="")
    for ax in axes[1:]:
        ax.axhline(100 * scale.direct_theta_error, color=COLORS[2], linestyle="--", marker="", label="direct")
        ax.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
        ax.set(ylabel="error of dL/dθ, %")
    mean = next(row.adjoint_rms for row in scale.rows if row.scale == 1)
    for ax in axes[:2]:
        ax.axvline(scale.tolerance, color="black", linestyle=":", marker="")
        ax.axvspan(mean, scale.images * mean, color="gray", alpha=0.2)
        ax.set(xlabel="RMS of $a(1)$", xticks=[1e-8, 1e-5, 1e-2, 10])
    nfe = [25, 50, 100, 200, 400]
    axes[0].set_yticks(nfe, map(str, nfe))
    axes[2].set_xticks(nfe, map(str, nfe))
    axes[0].set(ylabel="NFE backward")
    axes[2].set(xlabel="NFE backward")
    for ax in axes:
        ax.minorticks_off()
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    return figure

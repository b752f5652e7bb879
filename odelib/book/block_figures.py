"""Figures of what an ODE block asks of its solver."""

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import COLORS, panels
from odelib.solvers import Tableau, runge_kutta_step


def step_factor(method: Tableau, zeta: Tensor) -> Tensor:
    """R(zeta) for complex zeta = h lambda (n,): what a step of size h multiplies a solution of z' = lambda z by."""
    return runge_kutta_step(lambda t, z: zeta * z, 0.0, 1.0, torch.ones_like(zeta), method)[0]


def scaled_eigenvalues(method: Tableau, clouds: Mapping[str, Tensor]) -> Figure:
    """Products of a step size and eigenvalues, a cloud for each of at most two names, and the border of the region of
    stability.

    The clouds are complex (n,); the region is where the `step_factor` of the method has at most the absolute value 1.
    """
    real, imaginary = torch.meshgrid(
        torch.linspace(-4.2, 1.8, 200).double(), torch.linspace(-3.2, 3.2, 200).double(), indexing="xy"
    )
    zeta = torch.complex(real, imaginary)
    figure, (ax,) = panels(1, width=5.0, height=4.0)
    ax.contour(real.numpy(), imaginary.numpy(), step_factor(method, zeta).abs().numpy(), levels=[1.0], colors=["gray"])
    ax.plot([], [], color="gray", marker="", label=f"$|R| = 1$, {method.name}")
    for color, marker, (name, values) in zip(COLORS, "ox", clouds.items()):
        ax.plot(values.real.numpy(), values.imag.numpy(), marker, color=color, markersize=3, alpha=0.5, label=name)
    ax.set(xlabel="real part of $h\\lambda$", ylabel="imaginary part", aspect="equal")
    ax.legend(loc="lower left", fontsize=8)
    return figure

"""Regularisation of the dynamics: train it to be cheap to solve, by penalties integrated along the solution."""

import torch
from torch import Tensor, nn

from odelib.noise import HeldNoise, NoisyODEBlock
from odelib.odeblock import Solver
from odelib.odefunc import Time
from odelib.shapes import Float


class Penalized(HeldNoise):
    """Dynamics f with the densities of the penalties as further channels of the state.      (Finlay et al. 2020)

    In training the state is (batch, channels + 2, ...): z, then the kinetic energy ``|f|^2`` and the size
    ``|e^T df/dz|^2`` of the Jacobian so far, at every pixel, as the mean over the channels. e is normal noise, so that
    the mean of the latter over e is the squared Frobenius norm of the Jacobian (Hutchinson). With `jacobian=False` its
    channel stays zero and costs nothing. In eval mode it is f.
    """

    def __init__(self, f: nn.Module, jacobian: bool):
        super().__init__()
        self.f, self.jacobian = f, jacobian

    def forward(self, t: Time, z: Float[Tensor, "b c *pixels"]) -> Float[Tensor, "b c *pixels"]:
        if not self.training:
            return self.f(t, z)
        z = z[:, :-2]
        if self.jacobian:
            dz, product = self._with_jacobian_product(t, z)
        else:
            dz = self.f(t, z)
            product = torch.zeros_like(dz)
        densities = [part.square().mean(dim=1, keepdim=True) for part in (dz, product)]
        return torch.cat([dz, *densities], dim=1)

    def _with_jacobian_product(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """f and e^T df/dz, both differentiable; also where a solver has switched gradients off."""
        differentiated = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if differentiated and z.requires_grad else z.detach().requires_grad_()
            dz = self.f(t, z)
            noise = self.draw(dz, torch.randn_like)
            (product,) = torch.autograd.grad(dz, z, noise, create_graph=differentiated)
        return dz, product


class RegularizedODEBlock(NoisyODEBlock):
    """An ODEBlock that keeps, after each solve in training, the penalty that its solution earned.

    `penalty` is `kinetic` times the kinetic energy, the integral over t of ``|f|^2``, plus `jacobian` times the
    integral of ``|df/dz|^2``, both as means over the batch and over the numbers of the state. The solver integrates
    them with the state: they are as exact, cost no evaluation of their own, and every gradient mode differentiates
    them. They take part in the choice of the step size. In eval mode the block is an ODEBlock.
    """

    def __init__(
        self, f: nn.Module, solver: Solver = Solver(), *, kinetic: float = 0.0, jacobian: float = 0.0, **times: float
    ):
        super().__init__(Penalized(f, jacobian > 0), solver, **times)
        self.kinetic, self.jacobian = kinetic, jacobian
        self.penalty: Tensor | float = 0.0

    def train(self, mode: bool = True) -> "RegularizedODEBlock":
        self.penalty = 0.0  # no solve has been made in this mode
        super().train(mode)
        return self

    def __getstate__(self) -> dict:
        return self.__dict__ | {"penalty": 0.0}  # a tensor with a history cannot be copied, nor belongs into a copy

    def _solve(self, z: Tensor, times: list[float]) -> Tensor:
        if not self.training:
            return super()._solve(z, times)
        nothing_yet = z.new_zeros(len(z), 2, *z.shape[2:])
        states = super()._solve(torch.cat([z, nothing_yet], dim=1), times)
        energy, size = states[-1, :, -2:].transpose(0, 1).reshape(2, -1).mean(dim=1)
        self.penalty = self.kinetic * energy + self.jacobian * size
        return states[:, :, :-2]


def penalty(model: nn.Module) -> Tensor | float:
    """What the last forward pass in training adds to the loss; 0 where nothing is regularised, and in eval mode."""
    return sum((module.penalty for module in model.modules() if isinstance(module, RegularizedODEBlock)), start=0.0)

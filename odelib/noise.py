"""Noise in the dynamics: drawn once for every solve, so that along one solution f is one function of t and z."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from odelib.odeblock import ODEBlock
from odelib.odefunc import Time
from odelib.shapes import Float
from odelib.solvers import Dynamics


class HeldNoise(nn.Module):
    """Random numbers that stay the same until they are forgotten."""

    def __init__(self):
        super().__init__()
        self.noise: Tensor | None = None

    def draw(self, like: Tensor, distribution: Callable[[Tensor], Tensor]) -> Tensor:
        """The noise: `distribution(like)`, drawn by the first call since `forget`, which a NoisyODEBlock calls before a
        solve."""
        if self.noise is None:
            self.noise = distribution(like.detach())
        return self.noise

    def forget(self) -> None:
        self.noise = None


class NoisyODEBlock(ODEBlock):
    """An ODEBlock that has the noise of its dynamics drawn anew whenever it begins to solve.

    But for gradient `direct`, the backward pass evaluates f with the noise of the last solve. So every forward pass
    must have had its backward pass before the next one begins, as in any usual training loop; RuntimeError otherwise.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._forgotten = 0  # how often noise that a solve had drawn has been forgotten

    def _solve(self, z: Tensor, times: list[float]) -> Tensor:
        held = [module for module in self._modules_of_f if isinstance(module, HeldNoise)]
        self._forgotten += any(module.noise is not None for module in held)
        for module in held:
            module.forget()
        return super()._solve(z, times)

    def _dynamics_of_this_solve(self, f: Dynamics) -> Dynamics:
        before = self._forgotten

        def dynamics(t: Tensor, z: Tensor) -> Tensor:
            if before != self._forgotten:
                raise RuntimeError(
                    "this block was solved again, with new noise, before the backward pass of this solve"
                )
            return self._dynamics(f, t, z)

        return dynamics


class FixedDropout(HeldNoise):
    """A convolution with a time, whose input loses each of its numbers with probability p; the others grow by 1/(1-p).

    torch's dropout draws at every call. Within a solve that makes f a function that jumps from one evaluation to the
    next: no step size is small enough for it, and the adjoint would differentiate functions other than those solved.
    Nothing is dropped in eval mode.
    """

    def __init__(self, convolution: nn.Module, p: float):
        super().__init__()
        self.convolution, self.p = convolution, p

    def forward(self, t: Time, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        if self.training:
            z = z * self.draw(z, lambda like: torch.empty_like(like).bernoulli_(1 - self.p).div_(1 - self.p))
        return self.convolution(t, z)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"

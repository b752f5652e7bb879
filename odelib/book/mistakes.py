"""Nine ways to write an adjoint wrongly: each is planted in `odelib.gradients`, and a test of it must fail then."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import odelib.gradients


@dataclass(frozen=True)
class Mistake:
    """A line of `odelib/gradients.py`, written wrongly.

    `edits` are pairs of the right text and the wrong one; `test` is a test of `tests/test_adjoint.py` that catches it.
    """

    name: str
    edits: tuple[tuple[str, str], ...]
    test: str

    def planted(self) -> Callable:
        """The function `odeint_adjoint` with this mistake in it."""
        source = inspect.getsource(odelib.gradients)
        for right, wrong in self.edits:
            if source.count(right) != 1:
                raise ValueError(f"{self.name}: {right!r} stands {source.count(right)} times in gradients.py")
            source = source.replace(right, wrong)
        module = {"__name__": "planted"}
        exec(source, module)
        return module["odeint_adjoint"]  # type: ignore[return-value]  # a module holds anything


_PRODUCTS = "*(-part.flatten() for part in products)"
_OF_THETA = "*(-part.flatten() for part in products[1:])"
_J_A = "torch.autograd.functional.jvp(lambda x: ctx.f(t, x), z, a.view_as(z))[1].flatten()"
_TIMES = "test_gradients_of_every_time_are_those_of_finite_differences"
_LINEAR = "test_linear_dynamics_have_the_adjoint_of_the_matrix_exponential"
_THETA = "test_parameters_as_states_give_the_same_gradient"

MISTAKES = (
    Mistake(
        "the sign of θ's part flipped",
        ((_PRODUCTS, "-products[0].flatten(), *(p.flatten() for p in products[1:])"),),
        _LINEAR,
    ),
    Mistake("the sign of a's part flipped", ((_PRODUCTS, f"products[0].flatten(), {_OF_THETA}"),), _LINEAR),
    Mistake("J a for Jᵀ a", ((_PRODUCTS, f"-{_J_A}, {_OF_THETA}"),), _LINEAR),
    Mistake("dL/dt_i with a minus", (("at_times = [(part *", "at_times = [(-part *"),), _TIMES),
    Mistake(
        "dL/dt_0 without a minus",
        (("= -(a * speeds", "= (a * speeds"),),
        "test_end_time_derivatives_have_the_signs_of_the_theorem",
    ),
    Mistake("no jump", (("a = a + w[i]", "a = a + w[i] * (i == len(times) - 1)"),), _TIMES),
    Mistake("θ's part begins anew in every interval", (("a.flatten(), g])", "a.flatten(), 0 * g])"),), _THETA),
    Mistake(
        "a for w_i in dL/dt_i",
        (
            ("g = a.new_zeros", "w_or_a = list(w); g = a.new_zeros"),
            ("a = a + w[i]", "a = w_or_a[i] = a + w[i]"),
            ("in zip(w, speeds)", "in zip(w_or_a, speeds)"),
        ),
        _TIMES,
    ),
    Mistake(
        "w_0 counted in dL/dt_0",
        (("= -(a * speeds", "= -((a + w[0]) * speeds"),),
        "test_an_observation_at_the_start_pulls_at_z0_and_not_at_t0",
    ),
)

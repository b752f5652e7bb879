"""Robustness: how many images networks still read after an attack within a budget, and whose gradient it followed.

An attack follows the gradient of the loss with respect to the pixels. A gradient that points nowhere makes the attack
fail on a network that another attack would break: masked gradients (Athalye, Carlini and Wagner 2018). So every network
with one ODE block, but for those trained with Euler, is attacked through a tight solve, through a loose one and by the
adjoint of the loose one, and both solves read each attacked image: an attack that carries over from one to the other
shows what the other's gradient hid.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock, Solver, change_solver
from odelib.records import Environment, Record
from odelib.shapes import Float, Int64
from odelib.training import EVALUATED_AT_ONCE

IMAGES = 250  # the first of the test set
BUDGETS = (0.1, 0.2)  # largest change of a pixel, of the range from 0 to 1
PGD_STEPS = 10
TESTED = {"tight": Solver(), "loose": Solver(rtol=1.0, atol=1.0)}
MADE = {**TESTED, "loose adjoint": replace(TESTED["loose"], gradient="adjoint")}
OWN = "own"  # in place of a solve, of networks that are not made of one ODE block


@dataclass(frozen=True)
class Attacked:
    """One network on images that one attack changed."""

    KEY = ("case", "seed", "attack", "budget", "made", "tested")

    case: str
    seed: int
    attack: str  # none; noise: every pixel up or down by the budget, at random; fgsm; pgd
    budget: float
    made: str  # the solve whose gradient it followed, a name of `MADE`, or `OWN`; none and noise follow none
    tested: str  # the solve that reads the images, a name of `TESTED`, or `OWN`
    accuracy: float  # share of the images


@dataclass(frozen=True)
class Robustness(Record):
    """Accuracy under attack, of the first test images."""

    environment: Environment
    images: int
    pgd_steps: int
    rows: tuple[Attacked, ...]


def noise(
    x: Float[Tensor, "b c h w"], budget: float, generator: torch.Generator | None = None
) -> Float[Tensor, "b c h w"]:
    """Every pixel moved up or down by the budget at random, kept in [0, 1]: the same budget, and nothing to follow."""
    signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
    return (x + budget * signs.to(x)).clamp(0, 1)


def attack(
    model: nn.Module,
    x: Float[Tensor, "b c h w"],
    y: Int64[Tensor, "b"],
    budget: float,
    steps: int = 1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c h w"]:
    """Images in [0, 1], no pixel of which is farther than the budget from x, that raise the loss of the model.

    One step is FGSM (Goodfellow, Shlens and Szegedy 2015): every pixel moves by the budget in the direction of the
    gradient's sign. More steps are PGD (Madry et al. 2018): they begin at a random point within the budget, move by
    2.5 budgets over the number of steps each, and are brought back into the budget.
    """
    low, high = (x - budget).clamp(min=0), (x + budget).clamp(max=1)
    if steps == 1:
        found, size = x, budget
    else:
        found, size = low + (high - low) * torch.rand(x.shape, generator=generator).to(x), 2.5 * budget / steps
    for _ in range(steps):
        at = found.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(at), y, reduction="sum"), at)
        found = torch.minimum(torch.maximum(at + size * gradient.sign(), low), high)
    return found.detach()


Batches = Sequence[tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]]


@torch.no_grad()
def _share_right(model: nn.Module, images: Batches) -> float:
    return torch.cat([model(x).argmax(dim=1) == y for x, y in images]).double().mean().item()


def _versions(
    model: ImageClassifier, test: Batches, attacks: Sequence[str], pgd_steps: int
) -> Iterator[tuple[str, float, str, Batches]]:
    """The test images as they are, with noise, and as every attack leaves them: its name, budget, and gradient."""
    yield "none", 0.0, "none", test
    made: Mapping[str, Solver | None] = MADE if isinstance(model.block, ODEBlock) else {OWN: None}
    for budget in BUDGETS:
        chance = torch.Generator().manual_seed(0)
        yield "noise", budget, "none", [(noise(x, budget, chance), y) for x, y in test]
        for by, solver in made.items():
            for name in attacks:
                _solve_by(model, solver)
                chance, steps = torch.Generator().manual_seed(0), 1 if name == "fgsm" else pgd_steps
                yield name, budget, by, [(attack(model, x, y, budget, steps, chance), y) for x, y in test]


def _solve_by(model: ImageClassifier, solver: Solver | None) -> None:
    if solver:
        change_solver(model, solver)


def measure_robustness(
    subject: Subject, images: int = IMAGES, pgd_steps: int = PGD_STEPS, attacks: Sequence[str] = ("fgsm", "pgd")
) -> Robustness:
    """Attack every network of the study whose weights are at hand, but for those trained with Euler steps.

    (Solved more finely, a network of one Euler step is another one, and reads fewer images before any attack.) Raises
    RecordError when there are no weights.
    """
    test = list(batches(subject.data.test.pick(slice(0, images)).to(subject.device), EVALUATED_AT_ONCE))
    cases = {case: c for case, c in subject.cases.items() if c.network != "odenet" or c.method != "euler"}
    rows = []
    for case, seed, model in replace(subject, cases=cases).networks():
        model.requires_grad_(False)
        tested: Mapping[str, Solver | None] = TESTED if isinstance(model.block, ODEBlock) else {OWN: None}
        for name, budget, by, changed in _versions(model, test, attacks, pgd_steps):
            for how, solver in tested.items():
                _solve_by(model, solver)
                rows.append(Attacked(case, seed, name, budget, by, how, _share_right(model, changed)))
    environment = Environment.here(subject.device, __name__)
    return Robustness(environment, sum(len(y) for _, y in test), pgd_steps, tuple(rows))


MEASUREMENT = Measurement(
    Robustness, measure_robustness, __name__, studies=("mnist-gradients",), small={"attacks": ("fgsm",)}
)

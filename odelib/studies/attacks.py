"""Under attack: what networks with and without an ODE still read, and which gradients hid how little that is.

The record `robustness` attacks the networks of `mnist-gradients`; a case may have one seed or several.
"""

from collections.abc import Mapping, Sequence

from odelib.measurements.robustness import BUDGETS, Attacked, Robustness
from odelib.studies.statistics import share_interval
from odelib.studies.summary import Table, mean
from odelib.studies.trajectory import NAMES, ONE_NETWORK, by_case, grouped, networks, percent

MARGIN = 0.02  # between two attacks on the same images, above which one is called weaker
_GRADIENTS = ("loose adjoint", "loose", "tight")


def attacked(record: Robustness, case: str, tested: str, attack: str, budget: float) -> dict[str, list[Attacked]]:
    """The rows of an attack on a case that one solve reads, under the solve whose gradient the attack followed."""
    same = [
        row for row in record.rows if (row.case, row.tested, row.attack, row.budget) == (case, tested, attack, budget)
    ]
    return grouped(same, "made")


def strongest(rows: Mapping[str, Sequence[Attacked]]) -> list[float]:
    """Accuracy of every network under the attack that leaves it the least."""
    seeds: dict[int, list[float]] = {}
    for same in rows.values():
        for row in same:
            seeds.setdefault(row.seed, []).append(row.accuracy)
    return [min(values) for _, values in sorted(seeds.items())]


def readers(record: Robustness) -> list[tuple[str, str]]:
    """Every case with every solve that read its images."""
    return [
        (case, tested)
        for case, rows in by_case(record.rows).items()
        for tested in dict.fromkeys(r.tested for r in rows)
    ]


def reader(case: str, tested: str) -> str:
    """A network and the solve that reads the images, in words."""
    return NAMES[case] if tested == "own" else f"{NAMES[case]}; {tested} solve"


def attack_table(record: Robustness, budget: float) -> Table:
    """Accuracy in percent without attack, with noise, after FGSM and after PGD; each by the attack that leaves least.

    The column `own gradient` is PGD along the gradient of the solve that reads the images.
    """
    header = ["network", "networks", "clean", "noise", "FGSM", "PGD, own gradient", "PGD, strongest"]
    rows: list[list[object]] = []
    for case, tested in readers(record):
        clean, noisy, fgsm, pgd = (
            attacked(record, case, tested, name, size)
            for name, size in (("none", 0.0), ("noise", budget), ("fgsm", budget), ("pgd", budget))
        )
        cells = [percent(strongest(found), 1) for found in (clean, noisy, fgsm)]
        own = percent((row.accuracy for row in pgd[tested]), 1)
        rows.append([reader(case, tested), len(pgd[tested]), *cells, own, percent(strongest(pgd), 1)])
    return header, rows


def masked(record: Robustness) -> dict[tuple[str, float], dict[str, float]]:
    """What attacks leave the loose solve of `ONE_NETWORK`, means over the networks: under the attack and its budget, by
    whose gradient it followed: the loose solve's adjoint, the loose solve's own, the tight solve's."""
    found: dict[tuple[str, float], dict[str, float]] = {}
    for budget in BUDGETS:
        for name in ("fgsm", "pgd"):
            rows = attacked(record, ONE_NETWORK, "loose", name, budget)
            found[name, budget] = {by: mean(row.accuracy for row in rows[by]) for by in _GRADIENTS}
    return found


def masked_table(record: Robustness) -> Table:
    """`masked` in percent."""
    header = ["attack", "budget", *(f"along the {by}" for by in _GRADIENTS)]
    return header, [
        [name.upper(), f"{budget:g}", *(f"{100 * left[by]:.1f}" for by in _GRADIENTS)]
        for (name, budget), left in masked(record).items()
    ]


def hidden(record: Robustness) -> str:
    """The largest gap in a row of `masked`, as a sentence: how much a gradient hides that another one finds."""
    gaps = [
        (accuracy - min(left.values()), name, budget, by)
        for (name, budget), left in masked(record).items()
        for by, accuracy in left.items()
    ]
    gap, name, budget, by = max(gaps)
    if gap <= MARGIN:
        return "The three lie within two points of one another in every row: no gradient hid what another one found."
    return (
        f"The largest gap is {100 * gap:.0f} points: {name.upper()} with budget {budget:g}, along the {by}. By that "
        "attack and that gradient alone the network would look safer than it is."
    )


def kinds(record: Robustness, budget: float) -> dict[str, list[float]]:
    """What the strongest PGD leaves every network with an ODE (read by the tight solve), every residual one, and every
    one without a block."""
    found: dict[str, list[float]] = {"ode": [], "residual": [], "none": []}
    for case, tested in readers(record):
        if tested != "loose":
            kind = "ode" if tested == "tight" else "none" if case == "none" else "residual"
            found[kind] += strongest(attacked(record, case, tested, "pgd", budget))
    return found


def attack_numbers(record: Robustness, budget: float) -> dict[str, str]:
    """What the strongest PGD at one budget leaves every kind of network, in percent.

    `hidden` and `apart` are sentences: how much a gradient hid at any budget, and whether the ranges of networks with
    an ODE and of residual ones are apart. `large` is the range over all networks at the largest budget, `interval` that
    of the mean network with an ODE, over images.
    """
    found = {
        "images": f"{record.images:,}",
        "steps": str(record.pgd_steps),
        "n": str(networks(record.rows)[ONE_NETWORK]),
    }
    found["hidden"] = hidden(record)
    large = [share for values in kinds(record, max(BUDGETS)).values() for share in values]
    found["large"] = f"{100 * min(large):.1f} to {100 * max(large):.1f}"
    each = kinds(record, budget)
    for kind, values in each.items():
        found[kind] = f"{percent(values, 1)} % (n = {len(values)})" if values else "not in this record"
    ode, residual = each["ode"], each["residual"]
    if min(len(ode), len(residual)) < 2:
        found["apart"] = "With fewer than two networks of a kind, kinds cannot be compared."
    elif min(ode) > max(residual):
        found["apart"] = "Every attacked network with an ODE keeps more than every residual one."
    elif min(residual) > max(ode):
        found["apart"] = "Every residual network keeps more than every attacked one with an ODE."
    else:
        found["apart"] = "The two ranges overlap: these networks do not tell the kinds apart."
    if ode:
        low, high = share_interval(mean(ode), record.images)
        found["interval"] = f"{100 * low:.0f} to {100 * high:.0f}"
    return found

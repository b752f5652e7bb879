"""The pages on the layers and on the metrics: their numbers are what they say, and what they claim holds."""

from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import with_last
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from odelib import count_parameters, count_saved_bytes, load_weights
from odelib.book.block_figures import scaled_eigenvalues, step_factor
from odelib.book.layer_figures import error_bars, flow_data
from odelib.book.pages import FIGURES
from odelib.book.plots import class_plane
from odelib.book.script_log import STEPS, after_an_evaluation, leak, leak_numbers
from odelib.measurements.cross_solver import CrossTest
from odelib.records import RESULTS
from odelib.solvers import DOPRI5
from odelib.studies import STUDIES, controls, epochs
from odelib.studies.statistics import paired_seeds_interval
from odelib.studies.summary import final, only

STUDY = STUDIES["mnist-gradients"]


@pytest.fixture(scope="module")
def timing():
    return STUDY.measured("timing")


@pytest.fixture(scope="module")
def model():
    return load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")[0]


def with_accuracy(runs, **accuracies):
    """The runs with other test accuracies, by case: one value a run."""
    made = {case.replace("_", "-"): values for case, values in accuracies.items()}
    return {
        case: [with_last(runs[case][0], test_accuracy=a) for a in made.get(case, [0.75])] for case in controls.NAMES
    }


# The controls


def test_the_table_of_controls(runs, timing):
    some = with_accuracy(runs, none=[0.5], direct_dopri5=[0.75, 0.875])
    header, rows = controls.control_table(some, timing)
    assert all(len(row) == len(header) for row in rows)
    first, _, _, direct, _ = rows
    assert first[0] == "no block" and first[2:6] == [1, "50.00%", "one seed", "0.50"]
    assert direct[2:5] == [2, "81.25%", "75.00% to 87.50%"]
    median = next(row.quartiles[1] for row in timing.rows if row.case == "none")
    assert first[6] == f"{timing.steps_per_epoch * median:.0f}"


def test_the_numbers_of_the_controls(runs, timing):
    some = with_accuracy(runs, none=[0.5], resnet_1=[0.8], direct_dopri5=[0.7, 0.8], adjoint_dopri5=[0.9])
    numbers = controls.numbers(some, timing)
    assert (numbers["none"], numbers["resnet-1"], numbers["odenet"]) == ("50.00%", "80.00%", "90.00%")
    assert (numbers["blocks-low"], numbers["blocks-high"], numbers["spread"]) == ("75.00%", "90.00%", "15.00")
    assert (numbers["gain"], numbers["two-se"], numbers["none-share"]) == ("25.0", "0.87", "50.0%")
    times = [numbers[f"errors-{name}"] for name in ("low", "high", "six")]
    assert (times, numbers["runs"]) == (["2.0", "5.0", "2.0"], "1, 1 and 1")
    assert numbers["timing-hardware"] == timing.environment.hardware


def test_a_block_helps_and_the_blocks_lie_close_together(runs):
    reached = {case: np.mean([run.last.test_accuracy for run in runs[case]]) for case in controls.NAMES}
    none = reached.pop("none")
    assert min(reached.values()) - none > 4 * (max(reached.values()) - min(reached.values()))


def test_no_two_networks_with_a_block_are_told_apart(runs):
    blocks = [final(runs[case]) for case in controls.NAMES if case != "none"]
    for values, others in combinations(blocks, 2):
        _, low, high = paired_seeds_interval(values, others)
        assert low < 0 < high


def test_errors_are_drawn_with_two_standard_errors_and_every_seed():
    (ax,) = error_bars({"one": [0.5], "two": [0.75, 0.875]}).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "two"]
    (bar,) = ax.collections[0].get_segments()
    assert bar[:, 0].tolist() == pytest.approx([49, 51])
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "."]
    assert [list(x) for x in dots] == [[50.0], [25.0, 12.5]]


# What the parts of the trained network do


@pytest.fixture(scope="module")
def parts(model, sample):
    """Operations of each part for 20 digits, and bytes that are kept of it, by the gradient."""
    state, found = sample.test.images[:20].float() / 255, {}
    solver = model.block.solver
    for name, layer in (("stem", model.stem), ("ODE", model.block), ("head", model.head)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            out = layer(state)
        found[name] = {"flops": counter.get_total_flops()}
        for gradient in ("direct", "adjoint"):
            model.block.solver = replace(solver, gradient=gradient)
            with count_saved_bytes(layer.parameters()) as saved:
                _result = layer(state.clone().requires_grad_())  # what is kept lives as long as it
                found[name][gradient] = saved.live
        model.block.solver, state = solver, out
    return found


def test_the_stem_has_the_most_parameters_and_the_ode_the_most_work(model, parts):
    assert count_parameters(model.stem) > count_parameters(model.block) > count_parameters(model.head)
    assert parts["ODE"]["flops"] > parts["stem"]["flops"] > 100 * parts["head"]["flops"]


def test_the_adjoint_keeps_a_tenth_of_the_ode_at_most_and_as_much_of_the_stem(parts):
    assert parts["ODE"]["direct"] > 10 * parts["ODE"]["adjoint"]
    assert parts["stem"]["direct"] == parts["stem"]["adjoint"]


@pytest.fixture(scope="module")
def features(model, sample):
    """z(0), z(1/2) and z(1), for digits to learn from and digits to test on."""
    found = []
    with torch.no_grad():
        for digits in (sample.train.pick(slice(0, 500)), sample.test.pick(slice(0, 300))):
            z0 = model.stem(digits.images.float() / 255)
            states = model.block.trajectory(z0, torch.tensor([0.0, 0.5, 1.0]))
            found.append((states, digits.labels))
    return found


def test_the_head_reads_few_digits_at_the_start_of_the_flow_and_nearly_all_from_its_middle_on(model, features):
    _, (states, labels) = features
    with torch.no_grad():
        start, middle, end = ((model.head(z).argmax(1) == labels).float().mean().item() for z in states)
    assert start < 0.5 and middle > 0.95 and end > 0.95


def separation(z, labels):
    """Variance between class means over mean variance within, of averaged states."""
    groups = [z.mean(dim=(2, 3))[labels == k] for k in range(10)]
    between = torch.stack([group.mean(0) for group in groups]).var(0).sum()
    return (between / torch.stack([group.var(0).sum() for group in groups]).mean()).item()


def test_the_flow_more_than_doubles_the_separation_of_the_classes(features):
    _, (states, labels) = features
    start, middle, end = (separation(z, labels) for z in states)
    assert 2 * start < end and start < middle < end


def test_a_linear_reader_finds_most_classes_before_the_flow_and_more_behind_it(features):
    """With the penalty that is best for it, from the averages. All numbers of z(0) tell more than their averages."""
    (train, learned), (test, checked) = features
    targets = nn.functional.one_hot(learned).float() - 0.1

    def accuracy(read, penalty):
        a, b = (read(states) for states in (train, test))
        a, b = ((part - a.mean(0)) / (a.std(0) + 1e-6) for part in (a, b))
        weights = a.T @ torch.linalg.solve(a @ a.T + penalty * len(a) * torch.eye(len(a)), targets)
        return ((b @ weights).argmax(1) == checked).float().mean().item()

    def best(read):
        return max(accuracy(read, penalty) for penalty in (1e-4, 1e-2, 1.0))

    start, everything, end = (
        best(lambda states: states[0].mean(dim=(2, 3))),
        best(lambda states: states[0].flatten(1)),
        best(lambda states: states[-1].mean(dim=(2, 3))),
    )
    assert 0.5 < start < everything - 0.05 and everything <= end


# The drawings, and the spectrum of the block


def test_the_drawings_name_the_parameters_that_there_are(model):
    drawn = {name: (FIGURES / f"{name}.svg").read_text() for name in ("odefunc", "odeblock", "layers")}
    f = model.block.f
    for part in (f, f.conv1, f.norm1):
        assert f">{count_parameters(part):,}<" in drawn["odefunc"]
    for part in (model.stem, model.block, model.head):
        assert f">{count_parameters(part):,}<" in drawn["layers"]
    assert f"{count_parameters(model):,} in all" in drawn["layers"]


@pytest.mark.parametrize("name", ["odefunc", "odeblock", "layers"])
def test_a_drawing_is_one_svg_without_colours_of_its_own(name):
    svg = ElementTree.fromstring((FIGURES / f"{name}.svg").read_text())
    assert svg.tag.endswith("svg") and float(svg.get("viewBox").split()[2]) <= 360
    assert not any(element.get("fill") or element.get("stroke") or element.get("style") for element in svg.iter())


def test_eigenvalues_are_drawn_with_the_region_of_the_method():
    """dopri5 is stable on the real axis down to -3.31, and of order 5."""
    small = torch.tensor([-0.01 + 0.01j, 0.02j], dtype=torch.complex128)
    assert (step_factor(DOPRI5, small) - small.exp()).abs().max() < 1e-11
    cloud = torch.tensor([0.5 + 1j, -1 - 1j])
    (ax,) = scaled_eigenvalues(DOPRI5, {"some": cloud}).axes
    line = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    on_the_axis = line[np.abs(line[:, 1]) < 0.02]
    assert on_the_axis[:, 0].min() == pytest.approx(-3.31, abs=0.03) and on_the_axis[:, 0].max() < 0.03
    drawn = {tuple(point) for line in ax.lines for point in zip(line.get_xdata(), line.get_ydata())}
    assert {(0.5, 1.0), (-1.0, -1.0)} <= drawn


def test_the_data_of_the_flow_follow_the_digit_that_is_read_differently_most_often(sample):
    digits = sample.test.pick(slice(0, 12))
    torch.manual_seed(0)
    states, readings = torch.randn(3, 12, 4, 2, 2), torch.zeros(3, 12, dtype=torch.long)
    readings[:, 7] = torch.tensor([1, 2, 3])
    data = flow_data(states, readings, digits)
    assert data["follow"] == 7 and data["readings"][1] == "0" * 7 + "2" + "0" * 4
    assert data["labels"] == "".join(str(label) for label in digits.labels.tolist())
    np.testing.assert_allclose(data["points"], class_plane(states, digits.labels).flatten(1), atol=0.0051)
    assert data["sprite"].startswith("data:image/png;base64,") and data["columns"] == 20


# The metrics


def test_the_numbers_of_the_run_with_the_adjoint(runs):
    run, direct = runs["adjoint-dopri5"][0], runs["direct-dopri5"][0]
    first, last = (
        replace(m, nfe_forward=f, nfe_backward=b, test_accuracy=0.75, train_loss=0.125, train_accuracy=0.5, seconds=s)
        for m, f, b, s in ((run.metrics[0], 20.0, 30.0, 99.6), (run.last, 26.0, 13.0, 50.0))
    )
    other = replace(direct.last, test_accuracy=0.7501)
    made_up = {
        "adjoint-dopri5": [replace(run, metrics=(first, last))],
        "direct-dopri5": [replace(direct, metrics=(other,))],
    }
    cross = STUDY.measured("cross-solver")
    tests = (("1e-3", 20.0, 0.5), ("1e-5", 50.0, 0.25))
    cross = replace(cross, rows=tuple(CrossTest("adjoint-dopri5", 0, f"dopri5, {tol}", n, a) for tol, n, a in tests))
    inference = STUDY.measured("inference")
    numbers = epochs.numbers(made_up, cross, inference)
    row = only(inference.rows, case="adjoint-dopri5", seed=0, method="dopri5", rtol=1e-1)
    assert numbers.pop("loose-nfe") == f"{row.nfe:.0f}" and numbers.pop("loose-images") == "10,000"
    loose, own = (float(numbers.pop(f"{name}-accuracy")) for name in ("loose", "own"))
    assert loose == pytest.approx(100 * row.accuracy) and abs(loose - own) < 0.1
    assert numbers == {
        "nfe-first": "20.0", "nfe-last": "26.0", "ratio": "0.50", "ratio-low": "0.50", "ratio-high": "1.50",
        "accuracy": "75.00%", "wrong": "2500", "interval": "74.14 to 75.84", "loss-first": "0.12", "loss-last": "0.125",
        "train-first": "50.0%", "train-last": "50.0%", "test-first": "75.0%", "back-first": "30.0", "back-last": "13.0",
        "lr-first": f"{first.lr:.3f}", "lr-last": f"{last.lr:.0e}", "rising": "1",
        "seconds-first": "100", "seconds-last": "50", "direct": "75.01%", "direct-digits": "1", "tested-loose": "50.00",
        "tested-tight": "25.00", "tested-nfe-loose": "20", "tested-nfe-tight": "50",
    }  # fmt: skip
    falling = replace(run, metrics=(first, replace(last, nfe_forward=14.0)))
    with pytest.raises(ValueError):
        epochs.numbers({**made_up, "adjoint-dopri5": [falling]}, cross, inference)


def test_nfe_of_the_full_run_rises_by_one_step_and_its_rate_ends_near_zero(runs):
    run = runs["adjoint-dopri5"][0]
    assert 20 <= run.metrics[0].nfe_forward < 20.5 and run.last.nfe_forward == pytest.approx(26, abs=0.5)
    assert run.last.lr < 1e-4


def test_nfe_backward_is_near_nfe_forward_in_every_epoch_of_every_run(runs):
    assert len(epochs.ratios(runs)) == sum(len(run.metrics) for run in runs["adjoint-dopri5"])
    assert min(epochs.ratios(runs)) > 0.9 and max(epochs.ratios(runs)) < 1.3


def test_an_evaluation_leaks_into_one_step_and_decays():
    history = after_an_evaluation(20)
    assert len(history) == STEPS + 1 and history[:2] == [20.0, pytest.approx(34.0)]
    assert history[11] - 20 == pytest.approx(14 * 0.99**10)


def test_the_numbers_of_the_leak():
    """Evaluating every 50 steps: played through, it ends where the geometric series says."""
    mean = 20.0
    for step in range(5000):
        mean = 0.99 * mean + 0.01 * (20 * 71 if step % 50 == 0 else 20)
    numbers = leak_numbers(20)
    assert float(numbers["leak-50"]) == pytest.approx(mean, abs=0.05)
    assert (numbers["honest"], numbers["leak-step"]) == ("20", "34.0")
    assert numbers["leak-next"] == f"{70 * 0.99 ** (STEPS - 1):.2f} %"


def test_the_leak_is_drawn_beside_the_truth():
    left, right = leak(20).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), after_an_evaluation(20))
    assert set(left.lines[1].get_ydata()) == {20}
    assert right.lines[0].get_ydata()[0] == pytest.approx(70) and right.lines[1].get_xdata().tolist() == [STEPS]

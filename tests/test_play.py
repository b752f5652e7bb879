"""The page `play`: its scripts compute what PyTorch and odelib compute, and prepare drawings as MNIST's were."""

import json
import math
import re
import zlib
from base64 import b64decode

import numpy as np
import pytest
import torch
from conftest import run_node

from odelib import count_parameters, load_weights
from odelib.book import pages, play
from odelib.book.plots import class_plane
from odelib.records import RESULTS
from odelib.solvers import Statistics, odeint

QUICK, ALL = 12, 200  # test digits
SOLVES = {
    "euler": {"steps": 1},
    "midpoint": {"steps": 2},
    "rk4": {"steps": 4},
    "bosh3": {"tolerance": 1e-3},
    "dopri5": {"tolerance": 1e-3},
}


def node(scripts, program):
    """What `program` prints, as data, behind the scripts of these names."""
    return run_node(f"{pages.script(*scripts)}\n(async () => {{ {program} }})();")


@pytest.fixture(scope="module")
def model():
    """The network with the weights that the page has: rounded to 16 bits."""
    model, _ = load_weights(play.WEIGHTS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


@pytest.fixture(scope="module")
def data():
    return play.play_data()


@pytest.fixture(scope="module")
def answers(data):
    """A function: the answers of the worker's scripts to a list of requests."""

    def answers(requests):
        tools = {key: data[key] for key in ("weights", "shapes", "methods", "plane")}
        return node(
            play.WORKER,
            f"""
            const data = {json.dumps(tools)};
            const tools = {{ ...data, net: network(await unpack(data.weights), data.shapes) }};
            const answers = {json.dumps(requests)}.map((request) => answer(tools, request));
            console.log(JSON.stringify(answers.map(({{ start, end, ...rest }}) => rest)));""",
        )

    return answers


def request(image, method, clock=None, block=True, **options):
    return {"picture": image.flatten().tolist(), "method": method, "clock": clock, "block": block} | options


def solved(model, image, method, times=(0.0, 1.0), clock=None, **options):
    """States of one image at `times`, and what odelib's solver did, as the worker is asked to do."""
    f = model.block.f if clock is None else lambda t, z: model.block.f(torch.full_like(t, clock), z)
    solve = Statistics()
    how = (
        {"step_size": 1 / options["steps"]}
        if "steps" in options
        else dict.fromkeys(("rtol", "atol"), options["tolerance"])
    )
    with torch.no_grad():
        z0 = model.stem(image[None].float() / 255)
        return odeint(f, z0, torch.tensor(times), method=method, statistics=solve, **how), solve


def compare(model, images, answers, method):
    """Logits of the script are PyTorch's, and its solver takes odelib's steps."""
    options = SOLVES[method]
    for image, answer in zip(images, answers([request(image, method, **options) for image in images]), strict=True):
        states, solve = solved(model, image, method, **options)
        with torch.no_grad():
            expected = model.head(states[-1])[0]
        np.testing.assert_allclose(answer["logits"], expected, rtol=0, atol=1e-3)
        assert answer["nfe"] == solve.nfe
        assert [step["accepted"] for step in answer["steps"]] == [step.accepted for step in solve.steps]
        for part in ("t", "h"):
            steps = [getattr(step, part) for step in solve.steps]
            np.testing.assert_allclose([step[part] for step in answer["steps"]], steps, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", SOLVES)
def test_the_browser_computes_what_pytorch_computes(model, sample, answers, method):
    compare(model, sample.test.images[:QUICK], answers, method)


@pytest.mark.weekly
@pytest.mark.parametrize("method", SOLVES)
def test_the_browser_computes_what_pytorch_computes_for_many_digits(model, sample, answers, method):
    compare(model, sample.test.images[:ALL], answers, method)


def test_every_solver_of_the_page_is_tested():
    assert list(SOLVES) == list(play.METHODS)


@pytest.mark.parametrize("method", ("bosh3", "dopri5"))
def test_steps_are_rejected_as_odelib_rejects_them(method):
    """The trained field hardly ever asks for it; this one has a bump that a long step does not expect."""

    def bump(t, z):
        return z * (40 * torch.exp(-(((t - 0.6) / 0.03) ** 2)) - 2)

    program = f"""
        const f = (t, z) => z.map((v) => v * (40 * Math.exp(-(((t - 0.6) / 0.03) ** 2)) - 2));
        const way = {{ method: {json.dumps(play.tableaus()[method])}, tolerance: 1e-3 }};
        const {{ nfe, steps }} = solve(f, new Float64Array([1, -2]), way);
        console.log(JSON.stringify([nfe, steps.map(({{ t, h, accepted, ratio }}) => [t, h, accepted, ratio])]));"""
    nfe, steps = node(("runge-kutta",), program)
    solve, z0 = Statistics(), torch.tensor([1.0, -2.0], dtype=torch.float64)
    odeint(bump, z0, torch.tensor([0.0, 1.0]), method=method, statistics=solve)
    assert nfe == solve.nfe and solve.rejected
    expected = [[step.t, step.h, step.accepted, step.ratio] for step in solve.steps]
    np.testing.assert_allclose(steps, np.array(expected, dtype=float), rtol=1e-6)


@pytest.mark.parametrize("method", ("bosh3", "dopri5"))
def test_between_its_steps_an_adaptive_solver_interpolates_as_odelib_does(model, sample, answers, data, method):
    image, times = sample.test.images[3], torch.linspace(0, 1, 101)
    (answer,) = answers([request(image, method, tolerance=1e-3)])
    states, _ = solved(model, image, method, tuple(times.tolist()), tolerance=1e-3)
    states = states[:, 0]
    with torch.no_grad():
        np.testing.assert_allclose(answer["chances"], model.head(states).softmax(1), atol=1e-3)
    origin, axes = (torch.tensor(data["plane"][part]) for part in ("origin", "axes"))
    np.testing.assert_allclose(answer["points"], (states.mean(dim=(2, 3)) - origin) @ axes.T, atol=2e-3)


def test_a_fixed_grid_goes_straight_between_its_steps(sample, answers):
    (answer,) = answers([request(sample.test.images[3], "euler", steps=2)])
    points = np.array(answer["points"])
    np.testing.assert_allclose(points[25], (points[0] + points[50]) / 2, atol=1e-9)
    np.testing.assert_allclose(points[[0, 50, 100]], answer["stops"], atol=1e-9)


def test_the_questions_change_what_they_say(model, sample, answers):
    image = sample.test.images[3]
    asked = [
        request(image, "dopri5", tolerance=1e-3, clock=0.5),
        request(image, "dopri5", tolerance=1e-3, block=False),
    ]
    stopped, forgotten = answers(asked)
    states, solve = solved(model, image, "dopri5", clock=0.5, tolerance=1e-3)
    with torch.no_grad():
        np.testing.assert_allclose(stopped["logits"], model.head(states[-1])[0], atol=1e-3)
        np.testing.assert_allclose(forgotten["logits"], model.head(states[0])[0], atol=1e-3)
    assert stopped["nfe"] == solve.nfe and forgotten["nfe"] == 0 and forgotten["steps"] == []
    assert len({tuple(point) for point in forgotten["points"]}) == 1


def test_a_solve_that_needs_too_many_steps_gives_up():
    program = f"""
        const f = (t, [x, y]) => new Float64Array([-1e4 * y, 1e4 * x]);
        const way = {{ method: {json.dumps(play.tableaus()["bosh3"])}, tolerance: 1e-6 }};
        try {{ console.log(solve(f, new Float64Array([1, 0]), way).nfe); }}
        catch (error) {{ console.log(JSON.stringify(error.message)); }}"""
    assert node(("runge-kutta",), program) == "too many steps"


def test_halves_are_read_as_numpy_reads_them():
    bits = np.arange(2**16, dtype="<u2")
    finite = bits[np.isfinite(bits.view("<f2"))]
    program = f"console.log(JSON.stringify({finite.tolist()}.map((bits) => half(bits & 255, bits >> 8))));"
    np.testing.assert_array_equal(node(("bytes",), program), finite.view("<f2").astype(float))


def test_what_goes_to_the_page_is_small_and_whole(data, model):
    packed = zlib.decompress(b64decode(data["weights"]))
    assert len(packed) == 2 * count_parameters(model) == 2 * 208_266
    assert sum(math.prod(shape) for _, shape in data["shapes"]) == 208_266
    # With the theme's page around it and the text, it has to stay below 600 kB.
    assert len(json.dumps(data)) + len(pages.script("bytes", "drawing", "pad", "play")) < 540_000


def test_the_crowd_stands_in_the_plane_of_the_first_page(data, sample):
    model, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
    digits = sample.test.pick(slice(0, 300))
    with torch.no_grad():
        states = model.block.trajectory(model.stem(digits.images.float() / 255), torch.linspace(0, 1, 6))
    expected = class_plane(states, digits.labels)[:, : play.CROWD].flatten(1)
    np.testing.assert_allclose(data["crowd"]["points"], expected, atol=0.0051)


def test_the_last_digit_of_every_class_is_the_hardest(data, sample):
    model, _ = load_weights(play.WEIGHTS)
    with torch.no_grad():
        chances = model(sample.test.images.float() / 255).softmax(dim=1)
    chosen = play.to_fetch(model, sample.test)
    assert data["digits"]["labels"] == "".join(str(label) * 3 for label in range(10))
    for label in range(10):
        mine = (sample.test.labels == label).nonzero()[:, 0]
        first, second, hardest = chosen[3 * label : 3 * label + 3]
        assert [first, second] == mine[:2].tolist() and hardest == mine[chances[mine, label].argmin()].item()


def test_links_lead_to_headings(data):
    for page, title in play.LINKS.values():
        text = (pages.FIGURES.parent / f"{page}.md").read_text(encoding="utf-8")
        assert re.search(rf"^#+ {re.escape(title)}$", text, re.MULTILINE), (page, title)
    assert data["links"]["block"]["href"] == "layers.html#who-does-the-work"


def prepared(*drawings):
    program = f"console.log(JSON.stringify({json.dumps(drawings)}.map((d) => prepare(d) && [...prepare(d)])));"
    return [p and np.array(p, dtype=float).reshape(28, 28) for p in node(("drawing",), program)]


SEVEN = [[[5, 6], [20, 6], [12, 25]]]
ONE = [[[14, 4], [14, 22]]]


def moved(strokes, scale, shift):
    return [[[scale * x + shift, scale * y + shift] for x, y in stroke] for stroke in strokes]


def extent(picture):
    """Height and width of what is not blank."""
    rows, columns = np.nonzero(picture)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def centre(picture):
    return [(picture.sum(axis=1 - axis) * np.arange(28)).sum() / picture.sum() for axis in (0, 1)]


def test_mnist_is_prepared_as_the_page_says(sample):
    pictures = sample.test.images[:, 0].double().numpy()
    assert {max(extent(picture)) for picture in pictures} == {20}
    centres = np.array([centre(picture) for picture in pictures])
    assert np.abs(centres - 14).max() < 0.75 and np.abs(centres.mean(axis=0) - 14).max() < 0.05


@pytest.mark.parametrize("strokes", [SEVEN, ONE], ids=["seven", "one"])
def test_drawings_are_prepared_like_mnist(strokes):
    plain, small, again = prepared(strokes, moved(strokes, 0.3, 2), moved(strokes, 1.1, -1))
    assert max(extent(plain)) == 20
    np.testing.assert_allclose(centre(plain), 14, atol=0.51)
    # Where and how large it was drawn makes no difference.
    np.testing.assert_allclose(small, plain, atol=1)
    np.testing.assert_allclose(again, plain, atol=1)


def test_the_pen_leaves_as_much_ink_as_mnists(sample):
    """Twice the area over the length of the edge: how wide strokes are. The pen is within MNIST's spread."""

    def width(picture):
        dark = np.pad(picture > 127, 1)
        edge = sum(np.diff(dark.astype(int), axis=axis).__abs__().sum() for axis in (0, 1))
        return 2 * dark.sum() / edge

    widths = [width(picture[0].numpy()) for picture in sample.test.images]
    low, high = np.quantile(widths, [0.1, 0.9])
    assert all(low < width(picture) < high for picture in prepared(SEVEN, ONE))


def test_an_empty_pad_is_no_picture_and_a_dot_stays_small():
    nothing, dot = prepared([], [[[3, 3]]])
    assert nothing is None and max(extent(dot)) <= 4


def test_digits_drawn_with_a_mouse_are_read(answers):
    """Five plain shapes, as anyone would draw them."""
    circle = [[14 + 6 * math.sin(a), 14 - 9 * math.cos(a)] for a in np.linspace(0, 2 * math.pi, 40)]
    drawings = {
        0: [circle],
        1: ONE,
        3: [[[8, 6], [14, 4], [19, 8], [13, 13], [20, 18], [15, 24], [8, 22]]],
        4: [[[9, 4], [8, 14], [20, 14]], [[18, 4], [17, 25]]],
        7: SEVEN,
    }
    requests = [request(picture, "rk4", steps=1) for picture in prepared(*drawings.values())]
    assert [int(np.argmax(answer["logits"])) for answer in answers(requests)] == list(drawings)


def test_the_still_shows_the_digit_its_way_and_the_opinion():
    figure = play.play_still()
    digit, plane, bars = figure.axes
    way, stops = plane.lines
    assert digit.images and len(way.get_xdata()) == 51
    assert plane.get_title() == f"its flow, in {len(stops.get_xdata()) - 1} steps"
    lengths = [bar.get_width() for bar in bars.patches]
    assert sum(lengths) == pytest.approx(100, abs=1e-3) and lengths.index(max(lengths)) == int(play.SHOWN)


def test_the_digits_to_fetch_come_whole_through_the_packing(data, sample):
    program = f'console.log(JSON.stringify([...await unpack("{data["digits"]["pixels"]}")]));'
    pixels = np.array(node(("bytes",), program), dtype=np.uint8).reshape(30, 28, 28)
    chosen = play.to_fetch(load_weights(play.WEIGHTS)[0], sample.test)
    np.testing.assert_array_equal(pixels, sample.test.images[chosen, 0])

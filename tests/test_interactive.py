"""The figures that readers can move: their arithmetic is odelib's, and in the built site they do what they promise."""

import base64
import io
import json
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import run_node
from PIL import Image
from torch import nn

from odelib.book import pages, resnet_figures
from odelib.solvers import DOPRI5, TABLEAUS, Statistics, odeint

SITE = Path(__file__).parents[1] / "_build" / "html"

FIELDS = {
    "rotation": lambda t, z: torch.stack([-z[1], z[0]]),
    "pendulum": lambda t, z: torch.stack([z[1], -torch.sin(z[0]) - 0.3 * z[1]]),
    "Van der Pol": lambda t, z: torch.stack([z[1], 2 * (1 - z[0] ** 2) * z[1] - z[0]]),
}
SOLVES = [
    {"field": field, "method": method, "start": start, "time": time, "n": n}
    for field in FIELDS
    for method in ("euler", "midpoint", "heun", "rk4")
    for start, time, n in (([1.0, 0.25], 2 * math.pi, 60), ([-0.7, 1.3], 1.5, 4))
]


def run(name, expression):
    """What a JavaScript expression is after a figure's scripts, by node."""
    return run_node(f"{pages.script('runge-kutta', name)}\nconsole.log(JSON.stringify({expression}));")


@pytest.fixture(scope="module")
def solved():
    """The states that the script finds for each of SOLVES, and the fields' names, by one call of node."""
    methods = {name: {"c": tableau.c, "a": tableau.a, "b": tableau.b} for name, tableau in TABLEAUS.items()}
    solve = f"(s) => march(FIELDS[s.field].f, s.start, s.time, s.n, {json.dumps(methods)}[s.method])"
    return run("solver", f"{{ fields: Object.keys(FIELDS), ways: {json.dumps(SOLVES)}.map({solve}) }}")


@pytest.mark.parametrize("k", range(len(SOLVES)), ids=lambda k: "{field}-{method}-{n}".format(**SOLVES[k]))
def test_the_script_takes_the_steps_of_odelib(solved, k):
    s = SOLVES[k]
    times = torch.linspace(0, s["time"], s["n"] + 1, dtype=torch.float64)
    expected = odeint(FIELDS[s["field"]], torch.tensor(s["start"], dtype=torch.float64), times, method=s["method"])
    np.testing.assert_allclose(solved["ways"][k], expected, rtol=0, atol=1e-9)


def test_every_field_of_the_script_is_tested(solved):
    assert solved["fields"] == list(FIELDS)


EQUATIONS = {
    "Van der Pol": lambda t, z: torch.stack([z[1], 6 * (1 - z[0] ** 2) * z[1] - z[0]]),
    "a calm one": lambda t, z: torch.cos(3 * t) * torch.exp(-z),
    "a stiff one": lambda t, z: -50 * (z - torch.cos(t)),
}
STARTS = {"Van der Pol": ([2.0, 0.0], 16.0), "a calm one": ([0.5], 1.0), "a stiff one": ([0.0], 3.0)}
STEPPER = {name: getattr(DOPRI5, name) for name in ("order", "a", "b", "c", "error", "dense")}


def stepper(tolerance, past):
    """What the script finds for each of its equations."""
    follow = f"(e) => follow(e, {tolerance}, {json.dumps(STEPPER)}, {json.dumps(past)})"
    return run("stepper", f"Object.fromEntries(Object.entries(EQUATIONS).map(([n, e]) => [n, ({follow})(e)]))")


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_the_stepper_takes_and_rejects_the_steps_of_odelib(tolerance):
    found = stepper(tolerance, past=False)
    assert list(found) == list(EQUATIONS)
    for name, f in EQUATIONS.items():
        (start, end), seen = STARTS[name], Statistics()
        z0, times = torch.tensor(start, dtype=torch.float64), torch.tensor([0.0, end], dtype=torch.float64)
        z1 = odeint(f, z0, times, rtol=tolerance, atol=tolerance, statistics=seen)[-1]
        theirs = found[name]
        assert (theirs["nfe"], theirs["latest"]) == (seen.nfe, end)
        assert [step["accepted"] for step in theirs["steps"]] == [step.accepted for step in seen.steps]
        np.testing.assert_allclose([s["h"] for s in theirs["steps"]], [s.h for s in seen.steps], rtol=1e-4)
        np.testing.assert_allclose(theirs["result"], z1, rtol=0, atol=1e-6)


def test_a_last_step_past_the_end_is_that_of_a_longer_solve_and_the_result_is_interpolated():
    tolerance = 1e-4
    for name, theirs in stepper(tolerance, past=True).items():
        start, end = STARTS[name]
        z0, times = torch.tensor(start, dtype=torch.float64), torch.tensor([0.0, end, 4 * end], dtype=torch.float64)
        seen = Statistics()
        ours = odeint(EQUATIONS[name], z0, times, rtol=tolerance, atol=tolerance, statistics=seen)[1]
        *inside, last = theirs["steps"]
        assert last["t"] < end < last["t"] + last["h"] == pytest.approx(theirs["latest"])
        np.testing.assert_allclose([s["h"] for s in inside], [s.h for s in seen.steps[: len(inside)]], rtol=1e-6)
        np.testing.assert_allclose(theirs["result"], ours, rtol=0, atol=1e-8)


def test_what_the_page_says_of_the_stepper():
    exact = math.log(math.exp(0.5) + math.sin(3) / 3)
    better, steps, rejected = [], [], []
    for k in range(1, 9):
        ends, past = (stepper(10.0**-k, past) for past in (False, True))
        errors = [abs(found["a calm one"]["result"][0] - exact) for found in (ends, past)]
        better.append(errors[0] < errors[1])
        counts = {name: [step["accepted"] for step in found["steps"]] for name, found in ends.items()}
        steps.append(counts["Van der Pol"].count(True))
        rejected.append(counts["Van der Pol"].count(False))
        if k <= 2:
            assert 2.5 < 50 * 3 / sum(counts["a stiff one"]) < 3.3
    assert [k for k, gain in enumerate(better, 1) if not gain] == [4]
    assert steps[-1] > 4 * steps[2] and max(rejected[3:]) < 1.5 * rejected[2]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_layers_and_the_flow_of_the_figure_are_those_of_odelib(dimensions):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(dimensions + 1, 5), nn.Tanh(), nn.Linear(5, dimensions))
    head = nn.Linear(dimensions, 2)
    data = resnet_figures.network_as_data(net, head)
    net, head = net.double(), head.double()

    def field(t, z):
        return net(torch.cat([z, t.expand(len(z), 1)], dim=1))

    points = run("depth", f"circle(1.25, {dimensions}).slice(0, 7)")
    names = {"layers": f"layers(field, z, {12})", "flow": f"flow(field, z, {12})", "classes": "classified(field, z)"}
    found = run(
        "depth",
        f"""(() => {{
        const field = {json.dumps(data)};
        return {json.dumps(points)}.map((z) => ({{ {", ".join(f"{k}: {v}" for k, v in names.items())} }}));
    }})()""",
    )
    z0, times = torch.tensor(points, dtype=torch.float64), torch.linspace(0, 1, 13, dtype=torch.float64)
    with torch.no_grad():
        for name, method in (("layers", "euler"), ("flow", "rk4")):
            expected = odeint(field, z0, times, method=method).transpose(0, 1)
            np.testing.assert_allclose([point[name] for point in found], expected, rtol=0, atol=1e-4)  # rounded weights
        assert [point["classes"] for point in found] == head(z0).argmax(dim=1).tolist()
    assert np.linalg.norm(points, axis=1) == pytest.approx(1.25)


@pytest.fixture
def shown(monkeypatch):
    """What a page's calls displayed: a list of mime bundles."""
    bundles = []
    monkeypatch.setattr(pages, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_a_figure_takes_its_data_along_and_leaves_a_picture_where_no_script_runs(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "FIGURES", tmp_path)
    (tmp_path / "style.css").write_text("p { color: red }")
    (tmp_path / "dots.js").write_text("function show(root, data) {}")
    (tmp_path / "help.js").write_text("function help() {}")
    still, data = plt.figure(figsize=(1, 1), dpi=50), {"text": "</script>", "x": [1, 2.5]}
    pages.interactive("dots", data, still, alt='a "dot" & more', needs=("help",))
    (bundle,) = shown
    page = bundle["text/html"]
    assert json.loads(re.search(r"show\(root, (.*)\);", page)[1]) == data and page.count("</script>") == 1
    assert page.index("function help()") < page.index("function show(root, data) {}")
    assert 'alt="a &quot;dot&quot; &amp; more"' in page and "p { color: red }" in page
    assert Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))).size == (50, 50)
    assert bundle["image/png"] in page and not plt.fignum_exists(still.number)


def test_a_sprite_has_every_image_in_its_place(sample):
    images = sample.test.images[:5]
    uri = pages.sprite(images, columns=3)
    sheet = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))).convert("L")
    assert sheet.size == (3 * 28, 2 * 28)
    for k, image in enumerate(images):
        row, column = divmod(k, 3)
        cut = np.array(sheet.crop((28 * column, 28 * row, 28 * column + 28, 28 * row + 28)), dtype=float)
        assert np.abs(255 - cut - image[0].numpy()).max() < 32  # 16 greys


@pytest.fixture
def figure(browser):
    """A function that opens a page of the built site and returns its figure, scrolled into sight."""
    opened = []

    def figure(name, page, **options):
        path = SITE / f"{page}.html"
        if not path.exists():
            pytest.skip(f"no {path.name} in _build/html: run jupyter-book build book first")
        opened.append(browser.new_context(viewport={"width": 390, "height": 844}, **options))
        tab = opened[-1].new_page()
        tab.goto(path.as_uri(), wait_until="domcontentloaded")
        found = tab.locator(f"#figure-{name}")
        found.scroll_into_view_if_needed()
        return found

    yield figure
    for context in opened:
        context.close()


def said(figure):
    return figure.locator("output").inner_text()


def way(figure):
    return figure.locator("path.taken, path.tail").first.get_attribute("d")


def error(figure):
    return float(said(figure).split(": ")[-1])


@pytest.mark.browser
def test_the_solver_obeys_its_controls(figure):
    solver = figure("solver", "solvers")
    slider, method, field = (solver.locator(f"[name={name}]") for name in ("size", "method", "field"))
    assert "20 steps, NFE 20" in said(solver) and solver.locator(".dots circle").count() == 20
    way_before, error_before = way(solver), error(solver)
    slider.focus()
    slider.press("ArrowLeft")
    assert error(solver) < error_before and way(solver) != way_before
    before = error(solver)
    method.select_option("rk4")
    assert error(solver) < before / 100
    field.select_option("Van der Pol")
    slider.press("End")
    assert "the states explode" in said(solver)


@pytest.mark.browser
def test_the_start_moves_by_keyboard_click_and_drag(figure):
    solver = figure("solver", "solvers")
    start, tab = solver.locator(".start"), solver.page
    places = [start.get_attribute("aria-valuetext")]
    start.focus()
    tab.keyboard.press("ArrowUp")
    places.append(start.get_attribute("aria-valuetext"))
    solver.locator("svg").click(position={"x": 60, "y": 80})
    places.append(start.get_attribute("aria-valuetext"))
    box = start.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 90, box["y"] + 40, steps=3)
    places.append(start.get_attribute("aria-valuetext"))
    tab.mouse.up()
    assert places[:2] == ["x 1.00, y 0.00", "x 1.00, y 0.06"] and len(set(places)) == 4


@pytest.mark.browser
def test_a_finger_drags_the_start_and_does_not_scroll_the_page(figure):
    solver = figure("solver", "solvers", has_touch=True, is_mobile=True)
    start, tab = solver.locator(".start"), solver.page
    box, scrolled = start.bounding_box(), tab.evaluate("scrollY")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = tab.context.new_cdp_session(tab)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        *(("touchMove", [{"x": x, "y": y - 15 * k}]) for k in range(1, 6)),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.wait_for_timeout(200)
    height = float(start.get_attribute("aria-valuetext").split(" y ")[1])
    assert height > 1 and tab.evaluate("scrollY") == scrolled


@pytest.mark.browser
def test_more_layers_come_nearer_to_the_flow_and_a_zero_lifts_the_disk_out(figure):
    depth = figure("depth", "resnet-to-ode")
    layers, passed = depth.locator("[name=layers]"), depth.locator("[name=passed]")
    layers.focus()
    layers.press("Home")
    far = error(depth)
    assert "1 layer, 1 passed" in said(depth) and passed.get_attribute("max") == "1"
    layers.press("End")
    assert "64 layers, 64 passed" in said(depth) and error(depth) < far / 5
    at_the_end = depth.locator("g.carried path").first.get_attribute("d")
    passed.press("Home")
    assert depth.locator("g.carried path").first.get_attribute("d") != at_the_end and "64 layers, 0 passed" in said(
        depth
    )
    assert depth.locator("path.line").is_visible()
    depth.locator("[name=dimensions]").select_option("3")
    assert "100.0 % on their side" in said(depth) and not depth.locator("path.line").is_visible()


@pytest.mark.browser
def test_the_stepper_obeys_its_controls(figure):
    stepper = figure("stepper", "solvers-inside")
    tolerance, last = stepper.locator("[name=tolerance]"), stepper.locator("[name=last]")
    assert "73 accepted, 15 rejected" in said(stepper) and "= 530" in said(stepper)
    assert stepper.locator("g.rejected path").count() == 2 * 15
    before = error(stepper)
    tolerance.focus()
    tolerance.press("End")
    assert error(stepper) < before / 100
    stepper.locator("[name=equation]").select_option("a calm one")
    assert "up to t = 1.00" in said(stepper) and stepper.locator("rect.beyond").get_attribute("width") == "8"
    tolerance.press("Home")
    before = said(stepper)
    last.select_option("past")
    assert "up to t = 1.00" not in said(stepper) and said(stepper) != before


@pytest.mark.browser
def test_digits_move_with_the_slider_and_with_play(figure):
    flow = figure("flow", "layers")
    slider, play = flow.locator("[name=time]"), flow.locator("[name=play]")
    places = [way(flow)]
    slider.focus()
    slider.press("End")
    places.append(way(flow))
    assert "t = 1.00" in said(flow)
    play.press("Enter")
    flow.page.wait_for_function("document.querySelector('#figure-flow output').textContent.startsWith('t = 0.1')")
    play.press("Enter")
    places.append(way(flow))
    assert len(set(places)) == 3 and play.inner_text() == "Play"
    flow.page.wait_for_timeout(300)
    assert way(flow) == places[-1]


@pytest.mark.browser
def test_a_digit_is_followed_by_key_and_by_pointer_and_a_class_is_shown_alone(figure):
    flow = figure("flow", "layers")
    flow.locator("[name=digit]").press("Home")
    first = said(flow)
    assert "Digit 1 is a" in first and "a 0" in flow.locator(".thumbnail").get_attribute("aria-label")
    flow.locator("[name=time]").press("End")
    place = flow.locator("g[data-class='7'] text").first.bounding_box()
    flow.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    assert " is a 7 " in said(flow)
    flow.locator(".classes [data-class='7']").click()
    assert flow.locator("g.dimmed").count() == 9 and flow.locator("g.dimmed[data-class='7']").count() == 0
    flow.locator(".classes [data-class='7']").click()
    assert flow.locator("g.dimmed").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize(
    "name, page, part",
    [
        ("solver", "solvers", "path.taken"),
        ("flow", "layers", "path.way"),
        ("depth", "resnet-to-ode", "g.carried path >> nth=0"),
        ("stepper", "solvers-inside", "path.accurate"),
        ("play", "play", "path.taken"),
    ],
)
def test_colours_follow_the_theme_and_paper_gets_the_picture(figure, name, page, part):
    shown = figure(name, page)
    still, moving, tab = shown.locator("img.still"), shown.locator(".moving"), shown.page
    colors = []
    for theme in ("light", "dark"):
        tab.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        colors.append(shown.locator(part).first.evaluate("e => getComputedStyle(e).stroke"))
    assert colors[0] != colors[1] and moving.is_visible() and not still.is_visible()
    tab.emulate_media(media="print")
    assert still.is_visible() and not moving.is_visible()


@pytest.mark.browser
@pytest.mark.parametrize(
    "name, page",
    [
        ("solver", "solvers"),
        ("flow", "layers"),
        ("depth", "resnet-to-ode"),
        ("stepper", "solvers-inside"),
        ("play", "play"),
    ],
)
def test_without_scripts_there_is_the_picture(figure, name, page):
    shown = figure(name, page, java_script_enabled=False)
    assert shown.locator("img.still").is_visible() and shown.locator(".moving").count() == 0

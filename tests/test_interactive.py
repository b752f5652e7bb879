"""The figures that readers can move: their arithmetic is odelib's, and in the built site they do what they promise."""

import base64
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from odelib.book import pages
from odelib.solvers import TABLEAUS, odeint

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


@pytest.fixture(scope="module")
def solved():
    """The states that the script finds for each of SOLVES, and the fields' names, by one call of node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the scripts with: install Debian's nodejs")
    methods = {name: {"a": tableau.a, "b": tableau.b} for name, tableau in TABLEAUS.items()}
    program = (
        (pages.FIGURES / "solver.js").read_text()
        + f"""
        const methods = {json.dumps(methods)};
        const solve = (s) => integrate(FIELDS[s.field].f, s.start, s.time, s.n, methods[s.method]);
        console.log(JSON.stringify({{ fields: Object.keys(FIELDS), ways: {json.dumps(SOLVES)}.map(solve) }}));"""
    )
    return json.loads(subprocess.run([node, "-e", program], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("k", range(len(SOLVES)), ids=lambda k: "{field}-{method}-{n}".format(**SOLVES[k]))
def test_the_script_takes_the_steps_of_odelib(solved, k):
    s = SOLVES[k]
    times = torch.linspace(0, s["time"], s["n"] + 1, dtype=torch.float64)
    expected = odeint(FIELDS[s["field"]], torch.tensor(s["start"], dtype=torch.float64), times, method=s["method"])
    np.testing.assert_allclose(solved["ways"][k], expected, rtol=0, atol=1e-9)


def test_every_field_of_the_script_is_tested(solved):
    assert solved["fields"] == list(FIELDS)


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
    [("solver", "solvers", "path.taken"), ("flow", "layers", "path.way"), ("play", "play", "path.taken")],
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
@pytest.mark.parametrize("name, page", [("solver", "solvers"), ("flow", "layers"), ("play", "play")])
def test_without_scripts_there_is_the_picture(figure, name, page):
    shown = figure(name, page, java_script_enabled=False)
    assert shown.locator("img.still").is_visible() and shown.locator(".moving").count() == 0

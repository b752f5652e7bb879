"""The page `play` in a browser: a digit that is drawn, by mouse, finger or keyboard, is read, and the controls ask."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[1] / "_build" / "html" / "play.html"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PAGE.exists(), reason="no play.html in _build/html: run jupyter-book build book first"),
]


@pytest.fixture
def figure(browser):
    """A function that opens the page as a file and returns its figure, and a list of what the page asked for."""
    contexts = []

    def figure(**options):
        size = {"width": 390, "height": 844}
        contexts.append(browser.new_context(viewport=size, **{"reduced_motion": "reduce"} | options))
        tab = contexts[-1].new_page()
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(PAGE.as_uri(), wait_until="domcontentloaded")
        found = tab.locator("#figure-play")
        finished(found)
        found.scroll_into_view_if_needed()
        return found, asked

    yield figure
    for context in contexts:
        context.close()


def finished(figure):
    """Wait until the picture on the pad has its answer and the exact flow's; what was said."""
    figure.locator(".compared", has_text="z(1)").wait_for(timeout=60_000)
    return figure.locator(".answer").inner_text(), figure.locator(".compared").inner_text()


def draw(figure, *strokes):
    """Draw with the mouse; points are shares of the pad."""
    tab, pad = figure.page, figure.locator(".paper")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    for stroke in strokes:
        for k, (x, y) in enumerate(stroke):
            tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8 if k else 1)
            if k == 0:
                tab.mouse.down()
        tab.mouse.up()
    return finished(figure)


DRAWN_SEVEN = [(0.25, 0.22), (0.72, 0.22), (0.6, 0.5), (0.45, 0.85)]


def test_a_digit_drawn_by_mouse_is_read_and_compared_and_stays_on_the_page(figure):
    shown, asked = figure()
    before = len(asked)
    shown.locator("[name=clear]").click()
    assert "Draw a digit" in shown.locator(".answer").inner_text()
    answer, compared = draw(shown, DRAWN_SEVEN)
    assert answer.startswith("It reads 7, with ") and "NFE 26 in 4 accepted" in answer
    assert "reads 7" in compared
    assert shown.locator(".bars .best b").inner_text() == "7"
    assert shown.locator(".axis .stops circle").count() == 5
    local = (PAGE.parent.as_uri(), "data:", "blob:")
    assert all(url.startswith(local) for url in asked) and all(url.startswith(local[1:]) for url in asked[before:])


def test_two_strokes_make_one_digit(figure):
    shown, _ = figure()
    shown.locator("[name=clear]").click()
    answer, compared = draw(shown, [(0.35, 0.15), (0.28, 0.55), (0.75, 0.55)], [(0.65, 0.2), (0.6, 0.9)])
    assert answer.startswith("It reads 4") and "reads 4" in compared
    assert float(re.search(r"differ by ([\d.]+)\s%", compared)[1]) < 2


def test_a_finger_draws_and_does_not_scroll(figure):
    shown, _ = figure(has_touch=True, is_mobile=True)
    shown.locator("[name=clear]").tap()
    pad, tab = shown.locator(".paper"), shown.page
    pad.scroll_into_view_if_needed()
    box, scrolled = pad.bounding_box(), tab.evaluate("scrollY")
    touch = tab.context.new_cdp_session(tab)
    x, ys = box["x"] + box["width"] / 2, np.linspace(0.15, 0.85, 9)
    places = [{"x": x, "y": box["y"] + y * box["height"]} for y in ys.tolist()]
    for kind, points in [("touchStart", places[:1]), *(("touchMove", [p]) for p in places[1:]), ("touchEnd", [])]:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert finished(shown)[0].startswith("It reads 1") and tab.evaluate("scrollY") == scrolled


def test_the_keyboard_draws_clears_and_fetches(figure):
    shown, _ = figure()
    pad = shown.locator(".paper")
    pad.focus()
    for key in ("Delete", *["ArrowUp"] * 9, " ", *["ArrowDown"] * 18, " "):
        pad.press(key)
    assert finished(shown)[0].startswith("It reads 1")
    pad.press("Backspace")
    assert "Draw a digit" in shown.locator(".answer").inner_text()
    pad.press("7")
    assert "It reads 7" in finished(shown)[0] and "7 of the test set" in shown.locator(".seen").get_attribute(
        "aria-label"
    )
    shown.locator(".digits [data-class='2']").click()
    assert "It reads 2" in finished(shown)[0]


def test_solvers_and_questions_are_answered(figure):
    shown, _ = figure()
    said = shown.locator(".answer")
    shown.locator("[name=method]").select_option("rk4")
    said.filter(has_text="NFE 4 in 1 step,").wait_for()
    assert shown.locator("[name=tolerance]").is_hidden()
    shown.locator("[name=steps]").fill("8")
    said.filter(has_text="NFE 32 in 8 steps").wait_for()
    assert shown.locator(".axis .stops circle").count() == 9
    shown.locator("[name=euler]").click()
    said.filter(has_text="NFE 1 in 1 step,").wait_for()
    assert shown.locator("[name=method]").is_disabled()
    shown.locator("[name=block]").click()
    said.filter(has_text="NFE 0,").wait_for()
    assert "100\u00a0% of the way" in shown.locator(".compared").inner_text()
    shown.locator("[name=block]").click()
    shown.locator("[name=clock]").click()
    said.filter(has_text="NFE 32").wait_for()
    assert shown.locator(".questions [aria-pressed=true]").inner_text() == "Stop the clock"


def test_the_slider_moves_dot_bars_and_words(figure):
    shown, _ = figure()
    slider, state = shown.locator("[name=time]"), shown.locator(".state")
    places = [state.get_attribute("transform")]
    slider.focus()
    slider.press("Home")
    places.append(state.get_attribute("transform"))
    assert slider.get_attribute("aria-valuetext").startswith("t = 0.00: the head reads ")
    slider.press("ArrowRight")
    places.append(state.get_attribute("transform"))
    assert len(set(places)) == 3
    shown.locator("[name=play]").click()
    shown.page.wait_for_function("document.querySelector('#figure-play [name=time]').value === '100'")
    shown.locator("[name=play]").filter(has_text="Play").wait_for()  # 100 is rounded: the end may be a frame away
    assert state.get_attribute("transform") == places[0]


def test_a_digit_that_was_drawn_is_played_once_and_nothing_moves_before(figure):
    shown, _ = figure(reduced_motion="no-preference")
    slider = shown.locator("[name=time]")
    assert slider.input_value() == "100" and shown.locator("[name=play]").inner_text() == "Play"
    shown.locator("[name=clear]").click()
    draw(shown, DRAWN_SEVEN)
    watched = shown.page.evaluate(
        """async () => {
          const slider = document.querySelector("#figure-play [name=time]");
          const values = new Set();
          for (let k = 0; k < 100; k++) {
            values.add(slider.value);
            if (k > 2 && slider.value === "100") break;
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          return [...values];
        }"""
    )
    assert len(watched) > 1 and watched[-1] == "100"


def test_an_answer_by_rk4_is_quick(figure):
    """A phone has some three times as long: it shall answer in 300 ms."""
    shown, _ = figure()
    shown.locator("[name=method]").select_option("rk4")
    shown.locator(".answer", has_text="NFE 4").wait_for()
    seconds = []
    for _ in range(5):
        shown.locator("[name=clear]").click()
        answer, _ = draw(shown, DRAWN_SEVEN)
        seconds.append(float(re.search(r"([\d.]+) seconds", answer)[1]))
    assert min(seconds) <= 0.1


def test_what_the_page_adds_to_the_site_is_small():
    added = [path for path in PAGE.parent.rglob("play.*") if path.is_file()]
    assert PAGE in added and sum(path.stat().st_size for path in added) <= 600_000

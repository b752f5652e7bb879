"""The figure of a push and its price: its script solves as odelib does, and differentiates as autograd does."""

import re

import numpy as np
import pytest
import torch
from conftest import run_node

from odelib.book import pages, push
from odelib.gradients import odeint_adjoint
from odelib.solvers import odeint

FIELDS = {
    "pendulum": push.pendulum,
    "contract": lambda z: torch.stack([-z[0] - 2 * z[1], 2 * z[0] - z[1] + 0.5 * torch.sin(z[0])]),
}
M, S, STEPS = 120, [0.3, -0.2], 12  # of 400: where the push is, the push, Euler's steps
W = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def script():
    """For every field what the script computes."""
    return run_node(f"""{pages.script("runge-kutta", "plane", "push")}
        const answers = Object.entries(FIELDS).map(([name, field]) => {{
          const {{ path, price }} = prices(field);
          const jacobian = field.jacobian([0.3, -0.8]);
          const found = {{ ...pushes(field, path, {M}, {S}), ...euler(field, {STEPS}) }};
          return [name, {{ ...field, jacobian, path, price, ...found }}];
        }});
        console.log(JSON.stringify(Object.fromEntries(answers)));""")


def solve(f, z, time, n=400):
    """The solution of odelib at n + 1 times."""
    times = torch.linspace(0, time, n + 1, dtype=torch.float64)
    return odeint(lambda t, z: f(z), z, times, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=FIELDS)
def case(request, script):
    found = script[request.param]
    return FIELDS[request.param], found, torch.tensor(found["start"], dtype=torch.float64)


def test_all_fields_are_tested_and_begin_as_the_still_does(script):
    assert list(script) == list(FIELDS)
    first = script["pendulum"]
    assert (tuple(first["start"]), first["time"], tuple(first["pushed"])) == (push.START, push.TIME, push.PUSH)


def test_the_jacobians_are_right(case):
    f, found, _ = case
    z = torch.tensor([0.3, -0.8], dtype=torch.float64)
    np.testing.assert_allclose(found["jacobian"], torch.func.jacrev(f)(z), atol=1e-12)
    if f is push.pendulum:
        np.testing.assert_allclose(push.jacobian(z), found["jacobian"], atol=1e-12)


def test_path_and_pushed_path_are_solutions(case):
    f, found, start = case
    path = solve(f, start, found["time"])
    np.testing.assert_allclose(found["path"], path, atol=1e-6)
    neighbour = solve(f, path[M] + torch.tensor(S), found["time"] * (1 - M / 400), 400 - M)
    np.testing.assert_allclose(found["neighbour"], neighbour, atol=1e-6)


def test_a_push_travels_as_the_derivative_of_the_flow_says(case):
    f, found, _ = case
    z, time = torch.tensor(found["path"][M], dtype=torch.float64), found["time"] * (1 - M / 400)
    push_at_the_end = torch.autograd.functional.jvp(lambda z: solve(f, z, time, 1)[-1], z, torch.tensor(S).double())[1]
    np.testing.assert_allclose(found["push"][-1], push_at_the_end, atol=1e-5)


@pytest.mark.parametrize("m", (0, 200))
def test_the_price_is_the_gradient_with_respect_to_the_state_at_that_time(case, m):
    f, found, _ = case
    z = torch.tensor(found["path"][m], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(W @ solve(f, z, found["time"] * (1 - m / 400), 1)[-1], z)
    np.testing.assert_allclose(found["price"][m], gradient, atol=1e-5)


def test_the_product_stays_put(case):
    _, found, _ = case
    product = (np.array(found["price"][M:]) * np.array(found["push"])).sum(axis=1)
    np.testing.assert_allclose(product, product[0], atol=1e-6)
    assert np.ptp(np.linalg.norm(found["push"], axis=1)) > 0.05  # while the push itself does not


def test_eulers_direct_gradient_is_autograds_and_its_adjoint_is_odelibs(case):
    f, found, start = case
    z, times = start.requires_grad_(), torch.linspace(0, found["time"], 2, dtype=torch.float64)

    def steps(f, z, times):
        return odeint(f, z, times, method="euler", step_size=found["time"] / STEPS)

    for name, solver in (("direct", steps), ("adjoint", lambda f, z, t: odeint_adjoint(f, z, t, steps))):
        (gradient,) = torch.autograd.grad(W @ solver(lambda t, z: f(z), z, times)[-1], z)
        np.testing.assert_allclose(found[name], gradient, atol=1e-10)
    back = steps(lambda t, z: f(z), torch.tensor(found["states"][-1], dtype=torch.float64), times.flip(0))
    np.testing.assert_allclose(found["rebuilt"][-1], back[-1], atol=1e-10)


def test_where_the_flow_contracts_the_rebuilt_path_leaves_the_true_one(script):
    def astray(found):
        return np.linalg.norm(np.array(found["rebuilt"][-1]) - found["start"]) / np.linalg.norm(found["start"])

    assert astray(script["contract"]) > 0.5


def test_the_still_shows_a_product_that_stays_put():
    space, strip = push.push_still().axes
    assert len(space.lines) == 2 and len(space.collections) == 2
    product = strip.lines[-1].get_ydata()
    assert np.ptp(product) < 1e-6 and np.ptp(strip.lines[0].get_ydata()) > 0.1


@pytest.fixture
def shown(browser, monkeypatch, tmp_path):
    """The figure by itself in a browser, as wide as a phone."""
    bundles = []
    monkeypatch.setattr(pages, "display", lambda bundle, raw: bundles.append(bundle))
    push.show_push()
    page = tmp_path / "push.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{bundles[0]["text/html"]}', encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844})
    tab = context.new_page()
    tab.goto(page.as_uri())
    yield tab.locator("#figure-push")
    context.close()


def products(figure):
    """a · s where the push is, and at the end, as the text says."""
    return re.findall(r"a · s = (−?[\d.]+)\.", figure.locator("output").inner_text())


@pytest.mark.browser
def test_a_push_is_moved_by_keys_and_by_dragging_and_its_product_stays_put(shown):
    tip, tab = shown.locator(".tip"), shown.page
    seen = [products(shown)]
    tip.press("ArrowUp")
    seen.append(products(shown))
    tip.scroll_into_view_if_needed()
    box = tip.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 70, box["y"] + 60, steps=3)
    tab.mouse.up()
    seen.append(products(shown))
    shown.locator("[name=time]").fill("200")
    seen.append(products(shown))
    assert all(here == there for here, there in seen) and len({here for here, _ in seen}) == 4
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.browser
def test_euler_shows_two_gradients_and_the_path_that_its_adjoint_rebuilds(shown):
    gradients, said = shown.locator(".gradients path"), shown.locator("output")
    assert gradients.count() == 0 and shown.locator(".with-euler").is_hidden()
    shown.locator("[name=field]").select_option("contract")
    shown.locator("[name=steps]").fill("8")
    assert gradients.count() == 2 and shown.locator("path.rebuilt").get_attribute("d")
    assert "8 steps of Euler" in said.inner_text()

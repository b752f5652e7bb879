"""The built site as a reader gets it: every page in headless Chromium, wide and narrow, light and dark.

`pytest -m browser`, after `jupyter-book build book` and `pip install -e ".[browser]"`. Chromium, or Chrome, is the
system's own.
"""

import functools
import http.server
import threading
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(path.name for path in SITE.glob("*.html"))
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
# Colours depend on the theme, the layout on the width: two views show both, and one page is seen in the other two.
VIEWS = [(page, *view) for page in PAGES for view in [("desk", "light"), ("phone", "dark")]]
VIEWS += [("solvers.html", "desk", "dark"), ("solvers.html", "phone", "light")]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not PAGES, reason="no built site in _build/html: run jupyter-book build book first"),
]

# What a page's HTML must satisfy by itself; each entry of the answer that is not empty is a fault.
INSPECT = r"""() => {
  const visible = e => e.getClientRects().length > 0;
  const text = e => e.textContent.trim().slice(0, 60);
  const images = [...document.querySelectorAll("img")].filter(visible);
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(visible);
  const formulas = [...document.querySelectorAll(".math")];
  return {
    "images that did not load": images.filter(e => !(e.complete && e.naturalWidth)).map(e => e.src),
    "images without a description": images.filter(e => !e.alt.trim() || /[0-9a-f]{16}|\.(png|svg|jpe?g)$/.test(e.alt))
      .filter(e => !e.closest("a.logo")).map(e => e.src),
    "formulas with an error": [...document.querySelectorAll("mjx-merror")].map(e => e.getAttribute("data-mjx-error")),
    "formulas not rendered": formulas.filter(e => !e.querySelector("mjx-container") || /\\[()\[\]]/.test(
      [...e.childNodes].filter(c => c.nodeType === 3).map(c => c.data).join(""))).map(text),
    "a first heading missing or repeated": headings.filter(e => e.tagName === "H1").length === 1
      ? [] : headings.filter(e => e.tagName === "H1").map(text).concat("not exactly one h1"),
    "headings that skip a level": headings
      .filter((e, i) => i && e.tagName[1] > +headings[i - 1].tagName[1] + 1).map(text),
    "fonts that did not load": [...document.fonts].filter(f => f.status === "error").map(f => f.family),
    "sideways scrolling of the page": document.documentElement.scrollWidth <= document.documentElement.clientWidth
      ? [] : [`${document.documentElement.scrollWidth} > ${document.documentElement.clientWidth} pixels`],
  };
}"""


@pytest.fixture(scope="session")
def server():
    """The address of the site on a local web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


@pytest.fixture
def visit(browser):
    """A function that opens a page, waits until it is drawn, and returns it with the list of what went wrong.

    `html` is shown in place of what the address has.
    """
    contexts = []

    def visit(url, width="desk", theme="light", html=None):
        size = dict(zip(("width", "height"), WIDTHS[width]))
        contexts.append(browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce"))
        page = contexts[-1].new_page()
        here = url[: url.rindex("/") + 1]
        faults = []
        page.on("console", lambda m: m.type in ("error", "warning") and faults.append(f"{m.text} {m.location['url']}"))
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("request", lambda r: r.url.startswith((here, "data:", "blob:")) or faults.append(f"outside: {r.url}"))
        if html:
            page.route(url, lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(url)
        page.evaluate("() => window.MathJax?.startup.promise")
        # What is folded away is read too, and not while it fades in.
        page.add_style_tag(content="* { animation: none !important; transition: none !important; }")
        page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
        page.evaluate("async () => { await document.fonts.ready; }")
        return page, faults

    yield visit
    for context in contexts:
        context.close()


def inspect(page):
    return {what: where for what, where in page.evaluate(INSPECT).items() if where}


def severe(results):
    """What axe-core found that keeps readers out, a line each: rule, place, reason."""
    return [
        f"{violation['id']} at {node['target']}: {node['failureSummary']}"
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name, width, theme", VIEWS)
def test_page(visit, server, name, width, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason='no axe: pip install -e ".[browser]"')
    page, faults = visit(server + name, width, theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert inspect(page) == {}
    assert faults == []
    # axe-core itself fetches style sheets, and so comes last.
    assert severe(axe.Axe().run(page, options={"resultTypes": ["violations"]})) == []


def test_from_disk(visit):
    """Opened as a file a page is as whole as from a server, and asks for nothing beyond its folder."""
    page, faults = visit((SITE / "adjoint-proofs.html").as_uri())
    assert page.locator("mjx-container").count() > 100
    assert inspect(page) == {}
    assert faults == []


def tab_stops(page, most=200):
    """A name for each element that the tab key reaches, in order, until it is back at the first."""
    name = """() => { const e = document.activeElement; e.seen = (e.seen || 0) + 1;
        return e.seen > 1 ? null : [e.title || e.getAttribute("aria-label") || e.tagName, e.className].join(" "); }"""
    stops = []
    while len(stops) < most:
        page.keyboard.press("Tab")
        stop = page.evaluate(name)
        if stop is None:
            break
        stops.append(stop)
    return stops


def test_keyboard_on_a_phone(visit, server):
    """The tab key reaches the contents, the theme, the search, and whatever scrolls inside its own box."""
    page, _ = visit(server + "solvers.html", "phone")
    stops = " | ".join(tab_stops(page))
    for wanted in ("primary-toggle", "theme-switch", "search-button", "PRE", "MJX-CONTAINER", "scrollable-table"):
        assert wanted in stops, wanted
    # What fits is no stop: there are far more formulas and listings than scrolling ones.
    assert stops.count("MJX-CONTAINER") < page.locator("mjx-container").count() / 4

    page.locator(".primary-toggle").focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Notation").first.wait_for(state="visible")
    page.keyboard.press("Escape")

    before = page.evaluate("document.documentElement.dataset.mode")
    page.locator(".theme-switch-button:visible").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.mode") != before


def test_search(visit, server):
    """From any page: a word typed into the search field leads to results, and a result to its page."""
    page, faults = visit(server + "index.html")
    page.locator(".search-button__button:visible").first.click()
    page.keyboard.type("seminorm")
    page.keyboard.press("Enter")
    result = page.locator("ul.search li a").first
    result.wait_for()
    result.click()
    page.wait_for_url(lambda url: "/search.html" not in url)
    assert "seminorm" in page.locator("main").inner_text()
    assert faults == []


CARD = ".card-of-reference"


def card_of(page, link, by):
    """The text of the card that comes up when the mouse or the keyboard gets to a link."""
    link.scroll_into_view_if_needed()
    if by == "mouse":
        link.hover()
    else:
        page.keyboard.press("Shift")  # focus is shown to those who use the keyboard
        link.blur()
        link.focus()
    card = page.locator(CARD)
    card.wait_for(state="visible")
    assert link.get_attribute("aria-describedby") == card.get_attribute("id")
    return card


@pytest.mark.parametrize(
    "by, width, theme", [("mouse", "desk", "light"), ("keyboard", "desk", "dark"), ("keyboard", "phone", "light")]
)
def test_a_reference_shows_what_it_points_to(visit, server, by, width, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason='no axe: pip install -e ".[browser]"')
    page, faults = visit(server + "solvers.html", width, theme)
    for address, formulas, words in [
        ("#equation-eq-solvers-rk", True, "(8)"),  # on this page
        ("resnet-to-ode.html#lem-resnet-separation", True, "Lemma 1"),  # on another one
        ("references.html#", False, "Hairer"),
        ("api.html#odelib.solvers.odeint", False, "odelib.solvers.odeint("),
    ]:
        link = page.locator(f"article a:is(.reference, .code-link)[href^='{address}']:not(.headerlink)").first
        card = card_of(page, link, by)
        assert words in card.inner_text()
        assert bool(card.locator("mjx-container").count()) == formulas and r"\(" not in card.inner_text()
        assert card.locator("a, [tabindex], [id]").count() == 0  # nothing in it takes the focus or another's name
        box = card.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= WIDTHS[width][0]
        assert inspect(page) == {}
        page.keyboard.press("Escape")
        card.wait_for(state="detached")
        assert link.get_attribute("aria-describedby") is None
        page.mouse.move(0, 0)
    assert faults == []
    card_of(page, link, by)
    assert severe(axe.Axe().run(page, options={"resultTypes": ["violations"]})) == []


def test_a_card_stays_under_the_mouse_and_goes_with_it(visit, server):
    page, _ = visit(server + "solvers.html")
    card = card_of(page, page.locator("article a.reference[href='#thm-solvers-order']").first, "mouse")
    card.hover()
    page.wait_for_timeout(600)
    assert card.is_visible()
    page.mouse.move(0, 0)
    card.wait_for(state="detached")


def test_a_tap_follows_a_reference_and_shows_no_card(browser, server):
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(server + "solvers.html")
    page.locator("article a.reference[href='#thm-solvers-order']").first.tap()
    page.wait_for_url("**/solvers.html#thm-solvers-order")
    page.wait_for_timeout(600)
    assert page.locator(CARD).count() == 0
    context.close()


def test_cards_from_disk(visit):
    """A page on disk may not read another one: no card, and no error; a citation has its text with it."""
    page, faults = visit((SITE / "solvers.html").as_uri())
    for address in ("#equation-eq-solvers-rk", "references.html#"):
        card_of(page, page.locator(f"article a.reference[href^='{address}']").first, "keyboard")
    page.locator("article a.reference[href='resnet-to-ode.html#lem-resnet-separation']").first.focus()
    page.wait_for_timeout(600)
    assert page.locator(CARD).count() == 0
    assert faults == []


@pytest.mark.parametrize("width", ["desk", "phone"])
def test_a_note_stands_in_the_margin_or_where_there_is_none_in_the_text(visit, server, width):
    page, _ = visit(server + "solvers-inside.html", width)
    note = page.locator("aside.margin").first
    text = page.locator("aside.margin + p").first
    note.scroll_into_view_if_needed()
    beside, column = note.bounding_box(), text.bounding_box()
    if width == "desk":
        assert beside["x"] > column["x"] + column["width"] and beside["x"] + beside["width"] <= WIDTHS[width][0]
    else:
        assert (beside["x"], beside["width"]) == (column["x"], column["width"])
        assert beside["y"] + beside["height"] <= column["y"]


@pytest.mark.parametrize("width", [800, 1000, 1200, 1400, 1920])
def test_a_note_in_the_margin_pushes_no_page_sideways(visit, server, width):
    page, _ = visit(server + "solvers-inside.html")
    page.set_viewport_size(dict(width=width, height=900))
    assert page.locator("aside.margin").count() and inspect(page) == {}


@pytest.mark.parametrize("width, theme", [("desk", "light"), ("phone", "dark")])
def test_the_link_that_asks_about_a_section(visit, server, monkeypatch, width, theme):
    """It comes up with the mouse or the focus, and changes nothing else. A site has it if its repository is known."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason='no axe: pip install -e ".[browser]"')
    monkeypatch.syspath_prepend(SITE.parents[1] / "book" / "_ext")
    from ask import with_questions
    from repository import Repository

    html = (SITE / "solvers.html").read_text(encoding="utf-8")
    if 'class="ask"' not in html:
        html = with_questions(html, "solvers", Repository("a/b", "c0ffee"))
    page, faults = visit(server + "solvers.html", width, theme, html)
    heading = page.locator("h2:has(.ask)").first
    link = heading.get_by_role("link", name="Ask about the section")
    opacity = "e => getComputedStyle(e).opacity"
    assert link.evaluate(opacity) == "0"
    heading.hover()
    assert link.evaluate(opacity) == "1"
    page.mouse.move(0, 0)
    page.keyboard.press("Shift")
    link.focus()
    assert link.evaluate(opacity) == "1"
    assert inspect(page) == {} and faults == []
    assert severe(axe.Axe().run(page, options={"resultTypes": ["violations"]})) == []

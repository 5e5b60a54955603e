"""Pages in a browser: what their text cannot tell."""

import shutil

import pytest

from stml_tf.pages.comparison import comparison_page
from stml_tf.pages.report import report_page
from stml_tf.search.match import Match
from stml_tf.search.page import search_page
from tests.pages.records import healthy_run, ruined_run
from tests.toy_network import save_photograph

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# The contrast of each text with what lies behind it, in every element that holds text of its own.
LOWEST_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [.2126, .7152, .0722][n], 0);
  const behind = (element) => { for (let at = element; at; at = at.parentElement) {
    const color = rgb(getComputedStyle(at).backgroundColor); if (color[3] > 250) return color; }
    return [255, 255, 255]; };
  let lowest = [21, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest("script, style, title, defs")) continue;
    const style = getComputedStyle(element);
    const ink = rgb(element instanceof SVGElement ? style.fill : style.color);
    const pair = [luminance(ink), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + .05) / (pair[1] + .05);
    if (contrast < lowest[0]) lowest = [contrast, `${element.tagName} ${element.textContent.trim().slice(0, 40)}`];
  }
  return lowest;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    query = save_photograph(folder / "query.png", 1, (400, 100))
    found = [Match(save_photograph(folder / f"a_long_name_without_a_break_{n}.png", n), 0.1, 0.9) for n in range(30)]
    written = {
        "search": search_page([query], [found], title="Search results", about="30 images in the gallery g."),
        "healthy": report_page([healthy_run()]),
        "ruined": report_page([ruined_run()]),
        "two": report_page([healthy_run(), ruined_run()]),
        "compared": comparison_page([healthy_run(), ruined_run()]),
    }
    for name, page in written.items():
        (folder / f"{name}.html").write_text(page)
    return folder


class Opened:
    """A page in the browser, with all that it asked for and complained of."""

    def __init__(self, browser, file, size, scheme="light"):
        self.context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=size is PHONE)
        self.page = self.context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()


@pytest.mark.parametrize("name", ["search", "healthy", "ruined", "two", "compared"])
def test_pages_fit_ask_for_nothing_and_can_be_read(browser, pages, name):
    for size, scheme in ((PHONE, "light"), (PHONE, "dark"), (DESKTOP, "light"), (DESKTOP, "dark")):
        with Opened(browser, pages / f"{name}.html", size, scheme) as opened:
            assert opened.complaints == []
            assert [url for url in opened.requests if not url.startswith("data:")] == [
                (pages / f"{name}.html").as_uri()
            ]
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            lowest, where = opened.page.evaluate(LOWEST_CONTRAST)
            assert lowest >= 4.5, (scheme, where)
            background = opened.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
            images = opened.page.evaluate(
                "[...document.images].filter((i) => i.src != 'data:,').map((i) => i.naturalWidth)"
            )
            assert all(images)


def test_a_picture_is_enlarged_and_put_away_with_the_keyboard(browser, pages):
    with Opened(browser, pages / "search.html", PHONE) as opened:
        page = opened.page
        page.locator(".enlarge").nth(1).focus()
        page.keyboard.press("Enter")
        assert page.locator("dialog[open] figcaption").inner_text().startswith("Match 1 of query.png")
        page.keyboard.press("ArrowRight")
        assert page.locator("dialog[open] img").get_attribute("alt").startswith("Match 2 of query.png")
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        assert page.evaluate("document.activeElement.querySelector('img').alt").startswith("Match 2")
        page.locator(".enlarge").nth(3).tap()
        assert page.locator("dialog[open]").count() == 1
        assert opened.complaints == []


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_query_stays_in_view(browser, pages, size):
    with Opened(browser, pages / "search.html", size) as opened:
        opened.page.locator(".tiles li").nth(20).scroll_into_view_if_needed()
        opened.page.locator(".tiles li").last.scroll_into_view_if_needed()
        box = opened.page.locator(".query").bounding_box()
        assert 0 <= box["y"] < size["height"] / 2


def test_the_map_shows_the_image_that_is_pointed_at(browser, pages):
    with Opened(browser, pages / "healthy.html", DESKTOP) as opened:
        page = opened.page
        plane, words = page.locator(".plane"), page.locator(".glass figcaption")
        point = page.locator("[data-place='5']")
        plane.scroll_into_view_if_needed()
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert words.inner_text() == "image <5>"
        plane.focus()
        page.keyboard.press("ArrowRight")
        assert words.inner_text() != "image <5>"
        shown = page.locator(".glass svg").get_attribute("viewBox")
        assert [float(each) % 48 for each in shown.split()] == [0, 0, 0, 0]

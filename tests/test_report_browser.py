"""The report in a real browser: what it draws, how it is used, and that everyone can use it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from softhot.lab.report.page import render
from tests.studies import STUDY, drawn, mixed

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium or a Chrome")

PLOTS = ["gap", "sweep", "encoder", "decoder", "price", "budget", "curves", "cost"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
CONTRAST = """([text, back]) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => v / 255).map(
      (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const [a, b] = [light(text), light(back)];
  return Math.max(a, b) / Math.min(a, b);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render({**STUDY, "toml": "estimators = ['exact']"}, drawn()), encoding="utf-8")
    return path


class Reader:
    """A page that is open, and what it said and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": WIDE, "color_scheme": "light", **context})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def draw(self, *names: str) -> None:
        for name in names:
            self.page.locator(f"#{name}").scroll_into_view_if_needed()
            self.page.wait_for_selector(f"#{name} .main-svg .point, #{name} .main-svg .js-line", state="attached")

    def column(self, heading: str) -> list[str]:
        """The values of the rows that are shown, from top to bottom."""
        return self.page.evaluate(
            """(heading) => {
              const heads = [...document.querySelectorAll(".ranking thead th")];
              const i = heads.findIndex((head) => head.textContent === heading);
              return [...document.querySelectorAll(".ranking tbody tr")].filter((row) => row.checkVisibility())
                .map((row) => row.cells[i].dataset.value ?? row.cells[i].textContent);
            }""",
            heading,
        )

    def drawn_arms(self, name: str) -> set[str]:
        """The arms whose traces a picture shows."""
        return set(
            self.page.evaluate(
                "(id) => document.getElementById(id)._fullData.filter((t) => t.visible === true).map((t) => t.name)",
                name,
            )
        )

    def close(self) -> None:
        self.context.close()
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("data:", "blob:"))] == self.asked[:1]


@pytest.fixture
def reader(browser: Any, path: Path) -> Iterator[Reader]:
    opened = Reader(browser, path)
    yield opened
    opened.close()


def test_every_picture_draws(reader: Reader) -> None:
    page = reader.page
    assert page.evaluate("[...document.querySelectorAll('.plot')].map((plot) => plot.id)") == PLOTS
    assert page.evaluate("typeof Plotly") == "undefined"  # until something is to be drawn
    reader.draw(*PLOTS)
    images = page.locator("img")
    assert images.count() == 14
    for i in range(images.count()):
        images.nth(i).scroll_into_view_if_needed()
        page.wait_for_function("(i) => document.images[i].naturalWidth > 0", arg=i)


def test_headings_sort_with_the_mouse_and_the_keyboard(browser: Any, path: Path, tmp_path: Path) -> None:
    (tmp_path / "mixed.html").write_text(render(STUDY, mixed()), encoding="utf-8")
    reader = Reader(browser, tmp_path / "mixed.html")
    head = reader.page.get_by_role("columnheader", name="discrete ELBO")
    for act, order, sign in (
        (lambda: head.get_by_role("button").click(), "ascending", 1),
        (lambda: head.get_by_role("button").press("Enter"), "descending", -1),
        (lambda: reader.page.keyboard.press("Space"), "ascending", 1),
    ):
        act()
        assert head.get_attribute("aria-sort") == order
        cells = reader.column("discrete ELBO")
        numbers = [float(cell) for cell in cells if cell]
        assert numbers == sorted(numbers, key=lambda number: sign * number)
        assert len(numbers) == 6
        assert cells[-1] == ""  # what is not finite comes last, in either direction
    assert reader.page.locator("[aria-sort=none]").count() == reader.page.locator("th[aria-sort]").count() - 1
    reader.page.get_by_role("columnheader", name="arm").get_by_role("button").click()
    assert reader.column("arm")[-1].endswith("straight-through + categorical")
    reader.close()


def test_words_and_boxes_filter_the_table_and_the_pictures(reader: Reader) -> None:
    page, every = reader.page, len(reader.column("arm"))
    count = page.get_by_role("status")
    reader.draw("curves", "sweep")
    assert reader.drawn_arms("curves") >= {"exact + categorical", "reinmax t=1 + categorical"}
    assert "gumbel-softmax t=1 + concrete" not in reader.drawn_arms("curves")  # it is not the best of its estimator
    page.get_by_role("searchbox").fill("GUMBEL concrete t=1")
    assert count.text_content() == f"2 of {every} arms"
    assert len(reader.column("arm")) == 2
    shown = {"gumbel-softmax t=1 + concrete", "gumbel-softmax t=1 + concrete-exact"}
    page.wait_for_function(
        "() => document.getElementById('sweep')._fullData.filter((t) => t.visible === true).length === 2"
    )
    assert {name for name in reader.drawn_arms("curves") if "trace" not in name} == shown
    assert reader.drawn_arms("sweep") == {"gumbel-softmax + concrete"}
    assert page.locator(".gallery li:visible").count() == 2
    page.get_by_label("concrete-exact").press("Space")
    assert count.text_content() == f"1 of {every} arms"
    page.get_by_role("button", name="Show all").press("Enter")
    assert count.text_content() == f"{every} arms"
    assert page.locator(".gallery li:visible").count() == every
    page.get_by_label("reinmax").check()
    page.get_by_label("leave-one-out").check()
    assert count.text_content() == f"3 of {every} arms"
    page.wait_for_function(
        "() => document.getElementById('sweep')._fullData.filter((t) => t.visible === true).length === 2"
    )
    assert reader.drawn_arms("sweep") == {"reinmax + categorical"}


def test_what_is_drawn_can_be_chosen_with_the_keyboard(reader: Reader) -> None:
    reader.draw("curves", "price")
    axis = "(id) => document.querySelector(`#${id} .xtitle`).textContent"
    ends = "() => Math.max(...document.getElementById('curves')._fullData.flatMap((trace) => trace.x))"
    assert (reader.page.evaluate(axis, "curves"), reader.page.evaluate(ends)) == ("epochs", 5)
    for title, end in (("decoder evaluations", 60_000), ("seconds of training", 3), ("epochs", 5)):
        reader.page.locator("[name=curves-choice]:checked").press("ArrowRight")
        reader.page.wait_for_function(
            f"() => document.querySelector('#curves .xtitle').textContent === {json.dumps(title)}"
        )
        assert reader.page.evaluate(ends) == pytest.approx(end)
    hover = "() => document.getElementById('price')._fullData.find((trace) => trace.visible === true).hovertext[0]"
    assert ", encoder<br>" in reader.page.evaluate(hover)
    reader.page.get_by_label("decoder", exact=True).check()
    reader.page.wait_for_function(f"{hover}.includes(', decoder<br>')")


def test_the_pictures_follow_the_colour_scheme(reader: Reader) -> None:
    reader.draw("gap", "curves")
    page, colours = reader.page, []
    for scheme, text in (("dark", "rgb(228, 231, 234)"), ("light", "rgb(28, 32, 36)")):
        page.emulate_media(color_scheme=scheme)
        for name in ("gap", "curves"):
            page.wait_for_function(
                "([id, text]) => getComputedStyle(document.querySelector(`#${id} .xtick text`)).fill === text",
                arg=[name, text],
            )
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate(CONTRAST, [text, colours[-1]]) >= 4.5
        assert page.evaluate(CONTRAST, [text, colours[-1]]) > 10
    assert colours == ["rgb(20, 23, 26)", "rgb(255, 255, 255)"]


def test_a_phone_scrolls_the_table_and_not_the_page(browser: Any, path: Path) -> None:
    reader = Reader(browser, path, viewport=PHONE, has_touch=True, is_mobile=True)
    reader.draw(*PLOTS)
    for details in reader.page.locator("summary").all():
        details.click()
    assert reader.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert reader.page.evaluate("document.querySelector('.scroll').scrollWidth") > PHONE["width"]
    reader.page.get_by_role("region", name="Table of arms").press("ArrowRight")
    reader.page.wait_for_function("() => document.querySelector('.scroll').scrollLeft > 0")
    reader.close()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", WIDE), ("dark", PHONE)])
def test_everyone_can_use_it(browser: Any, path: Path, scheme: str, viewport: dict[str, int]) -> None:
    reader = Reader(browser, path, color_scheme=scheme, viewport=viewport)
    reader.draw("gap", "price")
    found = axe.Axe().run(reader.page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    reader.page.add_style_tag(content=":root { --quiet: var(--line) !important; }")
    found = axe.Axe().run(reader.page, options={"runOnly": ["color-contrast"]}).response["violations"]
    assert [one["id"] for one in found] == ["color-contrast"]  # it would have been seen
    reader.close()


def test_the_keyboard_goes_everywhere_and_shows_where_it_is(reader: Reader) -> None:
    page = reader.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the table"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#arms"
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        focused = "document.activeElement"
        seen.append(page.evaluate(f"{focused}.id || {focused}.closest('label, th, div').textContent"))
        outline = "(e) => getComputedStyle(e.closest('label') ?? e).outlineStyle"
        assert page.evaluate(f"({outline})(document.activeElement)") != "none", seen
    assert seen[:3] == ["filter", "all", " exact"]
    assert "rank" in [re.sub(r"\s", "", text) for text in seen]

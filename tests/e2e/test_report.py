"""`farm report` as people see it: in headless Chromium without a network, and as images."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import pytest
from conftest import Tool, skip_but_in_ci
from report_cases import many, verified_row, verified_store
from rows import row

from farm.results import leaderboard
from farm.results.report.points import front_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
MARKS = ".plot .mark-symbol.role-mark path"
HOSTILE = "<img src=x onerror='window.hacked=1'></script><script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        skip_but_in_ci("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Any]:
    """Opens a page; at the end nothing may have been requested, and no error have been shown."""
    wrong: list[str] = []
    contexts = []

    def show(path: Path, **how: Any) -> Page:
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        own = ("file:", "data:", "blob:")
        page.on("request", lambda one: None if one.url.startswith(own) else wrong.append(one.url))
        page.goto(path.as_uri())
        page.wait_for_selector(".plot[data-drawn]")
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def report(tool: Tool, rows: list[dict[str, Any]], place: Path, *words: object) -> Path:
    for sweep in {one["sweep"] for one in rows}:
        leaderboard.write([one for one in rows if one["sweep"] == sweep], place, sweep)
    done = tool("report", "--results", place, *words)
    assert done.code == 0, done.err
    return Path(done.out.strip())


def marks(page: Page) -> int:
    return page.locator(MARKS).count()


def shown(page: Page) -> int:
    return page.locator("tbody tr:not(.detail):visible").count()


def settled(page: Page, count: int) -> None:
    """Wait until so many rows are shown: the plot follows a filter a moment later."""
    page.locator(".shown", has_text=re.compile(f"^{count} of ")).wait_for()
    page.wait_for_timeout(150)


def test_a_page_of_1000_cells_is_small_opens_at_once_and_is_filtered(
    tool: Tool, tmp_path: Path, opened: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = many(1000)
    path = report(tool, rows, tmp_path / "r", "-o", "page.html")
    began = time.monotonic()
    page = opened(path)
    seconds = time.monotonic() - began
    with capfd.disabled():
        print(f"\n1,000 cells: {path.stat().st_size / 1e6:.2f} MB, open after {seconds:.2f} s")
    assert path.stat().st_size < 5e6
    assert page.get_attribute(".plot", "data-drawn") == "1"  # a second drawing takes a second
    assert (marks(page), shown(page)) == (980, 1000)

    page.fill("input[type=search]", "openvino INT8")
    wanted = [r for r in rows if r["runtime"] == "openvino" and r["precision"] == "int8"]
    settled(page, len(wanted))
    drawn = [one for one in wanted if one["status"] == "ok"]
    assert (marks(page), shown(page)) == (len(drawn), len(wanted))
    # The front that the page draws is that of the cells shown, as farm.results.picking has it.
    labels = page.locator(".plot .mark-text.role-mark text").all_text_contents()
    assert len(labels) == len(front_of(wanted))

    page.select_option(".filters label:has-text('model') select", "=model3")
    of_model = [one for one in wanted if one["model"] == "model3"]
    settled(page, len(of_model))
    assert shown(page) == len(of_model)
    page.click(".reset")
    settled(page, 1000)
    assert marks(page) == 980
    page.select_option(".filters label:has-text('status') select", "=failed")
    settled(page, 20)
    assert marks(page) == 0


def test_the_plot_is_hovered_selected_and_set_to_another_scale(
    tool: Tool, tmp_path: Path, opened: Any
) -> None:
    rows = [row(f"c{i}.cpu", latency_p50_ms=5.0 + i, box_ap=0.3 + i / 50, opset=11 + i)
            for i in range(8)]  # fmt: skip
    page = opened(report(tool, rows, tmp_path / "r"), viewport={"width": 1280, "height": 1000})
    mark = page.locator(MARKS).nth(3)
    mark.hover()
    assert "c3.cpu" in page.locator("#vg-tooltip-element").inner_text()

    assert not page.is_checked(".log")
    before = mark.get_attribute("transform")
    page.check(".log")
    page.wait_for_selector(".plot[data-drawn='2']")
    assert mark.get_attribute("transform") != before

    # Cells have a higher AP the slower they are: from below the first one to above the fourth.
    places = [page.locator(MARKS).nth(number).bounding_box() for number in (0, 3)]
    first, fourth = (one for one in places if one)
    page.mouse.move(first["x"] - 6, first["y"] + first["height"] + 6)
    page.mouse.down()
    page.mouse.move(fourth["x"] + fourth["width"], fourth["y"], steps=5)
    page.mouse.up()
    settled(page, 4)
    assert shown(page) == 4

    page.click(".reset")
    settled(page, 8)
    mark.click()
    detail = page.locator("tr.detail")
    assert "farm reproduce c3.cpu --sweep s" in detail.inner_text()
    assert "latency_p50_ms" in detail.inner_text() and "8 ms" in detail.inner_text()


def test_the_table_is_sorted_by_a_column_with_empty_values_last(
    tool: Tool, tmp_path: Path, opened: Any
) -> None:
    rows = [row("a", box_ap=0.3), row("b", box_ap=0.5), row("c", box_ap=None), row("d", box_ap=0.4)]
    page = opened(report(tool, rows, tmp_path / "r"))

    def order() -> list[str | None]:
        return [one.get_attribute("title") for one in page.locator("tbody tr").all()]

    page.click("th[data-column=bbox_mAP]")
    assert order() == ["a", "d", "b", "c"]
    page.click("th[data-column=bbox_mAP]")
    assert order() == ["b", "d", "a", "c"]


def test_texts_of_files_run_nothing(tool: Tool, tmp_path: Path, opened: Any) -> None:
    rows = [
        row(HOSTILE, model=HOSTILE, runtime=HOSTILE, device=HOSTILE),
        row("b", status="failed", reason=HOSTILE, failed_stage="build"),
    ]
    page = opened(report(tool, rows, tmp_path / "r"))
    page.locator("tbody tr").first.click()
    page.locator(MARKS).first.hover()
    assert HOSTILE in page.locator("#vg-tooltip-element").inner_text()
    assert HOSTILE in page.locator("tr.detail h4").inner_text()
    assert page.evaluate("window.hacked") is None


def test_the_page_is_legible_on_a_phone_in_the_dark_and_printed(
    tool: Tool, tmp_path: Path, opened: Any
) -> None:
    store = verified_store(tmp_path / "r" / "store")
    rows = [verified_row(f"m.op17.fixed.fp32.{runtime}.cpu", runtime=runtime)
            for runtime in ("torch", "openvino")]  # fmt: skip
    path = report(tool, [*rows, row("other", target="a gpu")], tmp_path / "r")
    page = opened(path, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert store.exists() and page.locator("figure img").count() == 4
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("section.target").count() == 2

    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) == "rgb(20, 23, 27)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"

    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    assert not page.locator(".controls").first.is_visible()
    assert page.pdf(width="210mm", height="297mm").startswith(b"%PDF")


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_plot_alone_is_an_image(form: str, tool: Tool, tmp_path: Path) -> None:
    path = report(tool, many(100), tmp_path / "r", "--plot", f"front.{form}")
    if form == "svg":
        text = path.read_text()
        assert text.startswith("<svg") and "openvino" in text and "latency" in text
        assert text.count('aria-roledescription="point"') == 98
    else:
        image = cv2.imread(str(path))
        assert image is not None and image.shape[1] > 1200 and image.std() > 10
    assert path.stat().st_size < 1_000_000


def test_what_is_wrong_is_said_before_any_work(tool: Tool, tmp_path: Path) -> None:
    place = tmp_path / "r"
    for words, said in (
        (("--plot", "front.jpg"), "--plot: 'front.jpg' does not end in .png or .svg"),
        (("-o", tmp_path), "is a folder; give a file"),
        (("--plot", "a.png", "-o", "b.html"), "not allowed with"),
        ((), "no leaderboard here; `farm run MATRIX` makes one"),
    ):
        done = tool("report", "--results", place, *words)
        assert done.code == 2 and said in done.err, done.err
    leaderboard.write([row("a", status="failed", reason="r", failed_stage="build")], place, "s")
    done = tool("report", "--results", place, "--plot", "front.png")
    assert done.code == 2 and "nothing to plot" in done.err
    done = tool("report", "--results", place, "--sweep", "t")
    assert done.code == 2 and "no sweep 't'" in done.err
    assert not list(Path.cwd().glob("*.png"))

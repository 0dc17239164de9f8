"""MLflow's own pages in a browser: what a sweep leaves there is found by the link that it prints.

With FARM_SCREENSHOTS=docs the pictures of docs/mlflow.md are taken anew.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Farm, skip_but_in_ci
from mlflow import MlflowClient
from mlflow.entities import Run

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
SIZE = {"width": 2000, "height": 900}


@pytest.fixture(scope="module")
def results(demo: Path, farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, and the same engines held to PyTorch's scores to the last digit: some fail."""
    model = "models={onestage: {config: demo/onestage.py, checkpoint: demo/onestage.pth}}"
    words = ("name=strict", model, "opsets=[17]", "compare=false", "verify.max_score_diff=0")
    own = Path(shutil.copytree(demo, tmp_path_factory.mktemp("pages") / "results"))
    done = farm("run", "matrices/demo.yaml", *words, "--results", own, "--executor", "inline")
    assert done.returncode == 1 and "failed at verify" in done.stdout
    return own


@pytest.fixture(scope="module")
def server(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `mlflow ui`, as the sweep says it is started."""
    (said,) = set(
        re.findall(r"MLflow: mlflow (ui \S+) sqlite:", (results / "stderr.txt").read_text())
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("ui")
    command = [sys.executable, "-m", "mlflow", *said.split(), f"sqlite:///{results / 'mlflow.db'}"]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"], cwd=folder, env=env,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until = time.monotonic() + 180
        while socket.socket().connect_ex(("127.0.0.1", port)):
            alive = process.poll() is None and time.monotonic() < until
            assert alive, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        skip_but_in_ci("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = opened.new_page(viewport=SIZE)
        page.set_default_timeout(60_000)
        yield page
        opened.close()


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Run]:
    """The cells' runs, the fastest first."""
    client = MlflowClient(tracking_uri=f"sqlite:///{results / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    return list(
        client.search_runs(
            [experiment.experiment_id], "tags.`farm.kind` = 'cell'",
            order_by=["metrics.latency_p50_ms ASC"],
        )
    )  # fmt: skip


def of_sweep(cells: list[Run], sweep: str) -> list[Run]:
    return [run for run in cells if run.data.params["sweep"] == sweep]


def show(page: Page, address: str, *texts: str, picture: str = "") -> str:
    """Open an address, wait for texts on the page, and return all of its text."""
    page.goto("about:blank")  # else a new fragment alone loads nothing
    page.goto(address)
    page.get_by_text("MLflow Assistant").or_(page.get_by_text(texts[0])).first.wait_for()
    if (panel := page.get_by_label("Close", exact=True)).count():
        panel.first.click()  # the assistant, which takes a quarter of the page
    for text in texts:
        page.get_by_text(text).first.wait_for()
    return taken(page, picture)


def taken(page: Page, picture: str) -> str:
    """Take a picture for docs/mlflow.md where that is asked for; return the text of the page."""
    if picture and (folder := os.environ.get("FARM_SCREENSHOTS")):
        page.wait_for_timeout(2000)  # for what moves
        part = {"x": 0, "y": 0, "width": 1500, "height": 900}  # without paths of this machine
        page.screenshot(path=f"{folder}/mlflow-{picture}.png", clip=part)
    return page.inner_text("body")


def test_the_link_that_is_printed_shows_the_runs_the_fastest_first(
    page: Page, server: str, results: Path, cells: list[Run]
) -> None:
    said = (results / "stderr.txt").read_text()
    first, last = re.findall(r"  then http://127\.0\.0\.1:5000(/#/\S+)", said)
    assert first == last  # at the start, when there was no database, and at the end
    own = of_sweep(cells, "demo")
    text = show(page, server + last, own[0].info.run_name, own[1].info.run_name, picture="runs")
    names = [run.info.run_name for run in own if run.info.run_name in text]
    assert len(names) >= 10 and names == sorted(names, key=text.index)
    assert "Sort: latency_p50_ms" in text
    assert len({name[:20] for name in names}) == len(names)


def test_two_cells_are_compared(page: Page, server: str, results: Path, cells: list[Run]) -> None:
    (link, *_) = re.findall(r"5000(/#/\S+)", (results / "stderr.txt").read_text())
    one, other = (run.info.run_name for run in of_sweep(cells, "demo")[:2])
    show(page, server + link, one, other)
    for _ in range(2):  # the first that is not ticked yet
        page.get_by_label("Press Space to toggle row selection (unchecked)").first.click()
    page.get_by_test_id("runs-compare-button").click()
    page.get_by_text("Comparing 2 Runs").first.wait_for()
    text = taken(page, "compare")
    assert one in text and other in text


def test_the_engines_are_on_the_page_of_models(
    page: Page, server: str, results: Path, cells: list[Run]
) -> None:
    experiment = cells[0].info.experiment_id
    address = f"{server}/#/experiments/{experiment}/models?workflowType=machine_learning"
    text = show(page, address, "-openvino-", picture="models")
    engines = {run.data.tags["farm.cell"].replace(".", "-") for run in cells}
    assert sum(name in text for name in engines) >= 10


def test_a_failed_cell_says_why_and_has_its_log(page: Page, server: str, cells: list[Run]) -> None:
    failed = next(run for run in of_sweep(cells, "strict") if run.info.status == "FAILED")
    address = f"{server}/#/experiments/{failed.info.experiment_id}/runs/{failed.info.run_id}"
    reason = failed.data.tags["farm.reason"].split(":")[0]
    text = show(page, address, "failed", reason[:20], picture="failed")
    assert "verify" in text
    show(page, f"{address}/artifacts", "verify.log")


def test_the_sweep_says_what_to_ship_and_how_to_run_it_again(
    page: Page, server: str, results: Path, cells: list[Run]
) -> None:
    parent = of_sweep(cells, "demo")[0].data.tags["mlflow.parentRunId"]
    address = f"{server}/#/experiments/{cells[0].info.experiment_id}/runs/{parent}"
    text = show(page, address, "Pareto front", picture="sweep")
    assert "farm run matrices/demo.yaml" in text and "Ship" in text
    assert "bbox_mAP" in text and "box_ap" not in text and "box AP" not in text
    files = ("matrix.yaml", "matrix-as-run.yaml", "leaderboard.csv", "report.html")
    show(page, f"{address}/artifacts", *files)

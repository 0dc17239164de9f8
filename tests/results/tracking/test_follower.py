"""MLflow while a sweep runs: what is on the disk is logged, and nothing there costs the sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pandas
import pytest
from conftest import wait_for
from mlflow import MlflowClient
from mlflow.entities import Run
from rows import row

from farm.results import leaderboard, tracking
from farm.results.tracking.follower import Tracker
from farm.store import Store


@pytest.fixture
def results(tmp_path: Path, tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.read_bytes())
    return tmp_path


@pytest.fixture
def tracker(results: Path) -> Iterator[Tracker]:
    made = Tracker("s", results, Store(results / "store"))
    yield made
    made.kill()


def runs(results: Path) -> dict[str, Run]:
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "params.sweep = 's'")
    return {one.info.run_name: one for one in found}


def test_rows_are_logged_while_the_sweep_runs_and_the_rest_at_its_end(
    results: Path, tracker: Tracker
) -> None:
    leaderboard.write([row("x")], results, "s")
    tracker.update()
    tracked = results / "tracked" / "s.json"
    wait_for(lambda: runs(results).get("s") is not None and tracked.exists())
    assert {name: one.info.status for name, one in runs(results).items()} == {
        "s": "RUNNING", "x": "FINISHED",
    }  # fmt: skip
    rows = [row("x"), row("y", status="failed", reason="why", failed_stage="build")]
    leaderboard.write(rows, results, "s")
    tracker.update()
    tracker.close(rows)
    found = {name: one.info.status for name, one in runs(results).items()}
    assert found == {"s": "FAILED", "x": "FINISHED", "y": "FAILED"}
    rows = leaderboard.of_sweep(results, "s")
    assert not tracking.log_sweep(
        "s", rows, {one["cell"]: tracking.Evidence() for one in rows}, results
    )


def artifacts(results: Path) -> dict[str, Path]:
    """The artifacts of the sweep's own run, by name."""
    place = Path(urlsplit(runs(results)["s"].info.artifact_uri).path)
    return {one.name: one for one in place.iterdir()} if place.is_dir() else {}


def test_the_report_is_an_artifact_of_the_sweep_once_all_cells_have_ended(
    results: Path, tracker: Tracker
) -> None:
    waiting = row("y", status="pending", reason="not run yet")
    leaderboard.write([row("x"), waiting], results, "s")
    tracker.close([row("x"), waiting])  # as of an interrupted sweep
    assert "leaderboard.csv" in artifacts(results) and "report.html" not in artifacts(results)
    rows = [row("x"), row("y", status="failed", reason="no such kernel", failed_stage="build")]
    leaderboard.write(rows, results, "s")
    tracker.update()
    wait_for(lambda: "y" in runs(results))
    assert "report.html" not in artifacts(results)
    tracker.close(rows)
    table = pandas.read_parquet(artifacts(results)["leaderboard"] / "cpu.parquet")
    assert [*table.cell] == ["x", "y"] and "bbox_mAP" in table
    page = artifacts(results)["report.html"].read_text()
    assert "no such kernel" in page and "<title>s" in page
    assert f"farm reproduce x --sweep s --results {results}" in page


def test_what_is_logged_already_starts_no_process(
    results: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaderboard.write([row("x")], results, "s")
    rows = leaderboard.of_sweep(results, "s")
    tracker.close(rows)
    assert set(runs(results)) == {"s", "x"}

    def none(*_: object, **__: object) -> None:
        raise AssertionError("a process is started")

    monkeypatch.setattr(subprocess, "Popen", none)
    tracker.close(rows)


def test_a_driver_that_is_killed_leaves_what_is_on_the_disk(results: Path) -> None:
    leaderboard.write([row("x")], results, "s")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from farm.results.tracking.follower import Tracker\nfrom farm.store import Store\n"
        "results = Path(sys.argv[1])\ntracker = Tracker('s', results, Store(results / 'store'))\n"
        "tracker.update()\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, results], check=False)
    wait_for((results / "tracked" / "s.json").exists)
    assert {name: one.info.status for name, one in runs(results).items()} == {
        "s": "RUNNING", "x": "FINISHED",
    }  # fmt: skip


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_given_up_in_time(
    results: Path,
    tracker: Tracker,
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    leaderboard.write([row("x")], results, "s")
    tracker.update()
    process = tracker._process
    assert process is not None
    tracker.close([row("x")], timeout_s=0.2)
    assert process.returncode is not None  # it is gone
    (warning,) = capsys.readouterr().err.splitlines()
    assert "not up to date" in warning


def test_updates_that_nobody_reads_wait_for_nothing(results: Path, tracker: Tracker) -> None:
    with ThreadPoolExecutor() as threads:  # as the board does, in a thread of its own
        threads.submit(tracker.update).result()
    process = tracker._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    for _ in range(70_000):  # a pipe has room for 65,536 bytes
        tracker.update()
    assert tracker._process is process


def test_a_failure_is_one_warning_without_secrets(
    results: Path,
    tracker: Tracker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cr3t@127.0.0.1:9")
    leaderboard.write([row("x")], results, "s")
    tracker.update()
    tracker.update()
    tracker.close([row("x")])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("MLflow at http://***@127.0.0.1:9") and "s3cr3t" not in first
    assert "the same command run again logs it" in second
    files = [path for path in results.rglob("*") if path.is_file()]
    assert files and not any(b"s3cr3t" in path.read_bytes() for path in files)


def test_a_process_that_dies_is_a_warning(
    results: Path, tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    leaderboard.write([row("x")], results, "s")
    tracker.update()
    assert tracker._process is not None
    # In a session of its own, it is not ended by Ctrl-C.
    assert os.getsid(tracker._process.pid) == tracker._process.pid
    tracker._process.kill()
    tracker._process.wait()
    tracker.update()
    tracker.close([row("x")])
    assert "its process ended with -9" in capsys.readouterr().err


def test_warnings_of_the_process_are_shown(
    results: Path, tracker: Tracker, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "mlflow.db").write_bytes(b"x" * 4096)
    leaderboard.write([row("x")], results, "s")
    tracker.close([row("x")])
    assert "mlflow.db is broken (file is not a database)" in capsys.readouterr().err
    assert set(runs(results)) == {"s", "x"}


@pytest.mark.slow
def test_a_server_gets_the_runs_of_a_hundred_cells(
    results: Path, tracker: Tracker, tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (results / "server.db").write_bytes(tracked.read_bytes())
    uri = f"sqlite:///{results / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(
        command, cwd=results, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        until = time.monotonic() + 120
        while server.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        rows = [row(f"c{n}", box_ap=n / 100) for n in range(100)]
        leaderboard.write(rows, results, "s")
        tracker.close(rows)
        found = runs(results)
        assert found.pop("s").info.status == "FINISHED"
        assert {name: one.data.metrics["bbox_mAP"] for name, one in found.items()} == {
            one["cell"]: one["box_ap"] for one in rows
        }
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_the_sweep_itself_imports_no_mlflow() -> None:
    code = "import sys, farm.results.tracking.follower; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

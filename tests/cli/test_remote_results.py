"""Results in an object store: rows, matrices, locks, and what is said where it cannot be used."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MATRIX, PROJECT, Tool
from faults import Proxy
from object_stores import KEY, S3, leave, use
from rows import row

import farm
from farm.cli.places import results_folder, results_place, store_address, store_folder
from farm.cli.results import Results, results_of
from farm.config.loader import load_matrix
from farm.engine.claims import remove_stale_work
from farm.errors import InputError
from farm.results import leaderboard
from farm.store.remote import claims, opening

PENDING = {"status": "pending", "box_ap": None, "latency_p50_ms": None, "reason": "not yet"}


@pytest.fixture
def place(s3: S3) -> str:
    return f"s3://{s3.bucket()}/team"


def elsewhere(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """The same results as another machine sees them."""
    monkeypatch.setenv("FARM_CACHE", str(tmp_path / "elsewhere"))
    return Results.at(place)


def test_rows_are_there_for_all(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Results.at(f"{place}/")
    assert str(own) == place and own.rows() == []
    with pytest.raises(InputError, match="no leaderboard here") as error:
        own.read()
    assert error.value.where == place
    own.write([row("a", sweep="s"), row("b", sweep="s", target="gpu")], "s")
    own.write([row("c", sweep="t")], "t")
    other = elsewhere(place, tmp_path, monkeypatch)
    assert other.folder != own.folder
    assert sorted(one["cell"] for one in other.read()) == ["a", "b", "c"]
    with pytest.raises(InputError, match="no sweep 'x'") as error:
        other.read(sweep="x")
    assert error.value.where == f"{place}/leaderboard"
    own.write([row("a", sweep="s")], "s")  # the matrix no longer has the other target
    assert sorted(one["cell"] for one in other.read()) == ["a", "c"]
    assert sorted(one["cell"] for one in own.read()) == ["a", "c"]
    own.write([row("d", sweep="s", target="gpu")], "s", complete=False)
    assert sorted(one["cell"] for one in other.of_sweep("s", "*")) == ["a", "d"]
    assert other.written("s") > other.written("nothing") == 0.0


def test_who_reads_leaves_the_files_of_a_running_sweep_alone(place: str) -> None:
    driver = Results.at(place)
    driver.write([row("a", sweep="s")], "s")
    leaderboard.write([row("a", sweep="t")], driver.folder, "t")  # it is about to put them
    reader = Results.at(place, only_read=True)
    assert [one["sweep"] for one in reader.read()] == ["s"]
    driver.keep("t")
    assert sorted(one["sweep"] for one in reader.read()) == ["s", "t"]
    assert reader.folder != driver.folder and reader.folder.stat().st_mode & 0o077 == 0


def test_the_folder_of_who_reads_lasts_as_long_as_the_results(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Results.at(place).write([row("a", sweep="s")], "s")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(3):
        assert len(farm.leaderboard(results=place)) == 1
    assert [*tmp_path.glob("farm-*")] == []
    reader = Results.at(place, only_read=True)
    assert [one["cell"] for one in reader.read()] == ["a"]
    if not (child := os.fork()):
        del reader
        os._exit(0)
    os.waitpid(child, 0)
    assert reader.folder.parent == tmp_path and [*reader.folder.rglob("*.parquet")]
    del reader
    assert [*tmp_path.glob("farm-*")] == []


def test_the_folder_of_a_reader_that_was_killed_is_removed_by_the_next(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Results.at(place).write([row("a", sweep="s")], "s")
    code = (
        "import sys, tempfile\nfrom farm.cli.results import Results\n"
        "tempfile.tempdir = sys.argv[1]\nreader = Results.at(sys.argv[2], only_read=True)\n"
        "print(len(reader.read()), flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), place]
    with subprocess.Popen(command, stdin=-1, stdout=-1, cwd=PROJECT, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        process.kill()
    (left,) = tmp_path.glob("farm-results-*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = Results.at(place, only_read=True)
    assert [*tmp_path.glob("farm-results-*")] == [reader.folder] != [left]


@pytest.fixture
def refused(
    s3: S3, s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The requests that would change something, once the service refuses all of them."""
    found = list[str]()

    def rule(method: str, path: str, before: int) -> str:
        if method in ("GET", "HEAD"):
            return ""
        found.append(f"{method} {path}")
        return "403"

    proxy = Proxy(s3_server.port)
    proxy.rule = rule
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield found
    proxy.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("leaderboard",), "onnxruntime"),
        (("best", "--all-sweeps"), "Ship a"),
        (("watch",), "sweep s has ended. 2 cells: 2 ok"),
        (("diff", "runtime=onnxruntime", "runtime=openvino"), "1 cells: "),
        (("plan", "m.yaml"), "cells"),
        (("report", "-o", "report.html"), "report.html"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_who_only_reads_needs_no_right_to_write(
    s3_server: S3,
    refused: list[str],
    tool: Tool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    (tmp_path / "m.yaml").write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    place = f"s3://{s3_server.bucket()}/team"
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_server.variables["AWS_ENDPOINT_URL"])
        rows = [row("a", sweep="s", export_key=KEY), row("b", sweep="s", runtime="openvino")]
        driver = Results.at(place)
        driver.write(rows, "s")
        leave(driver.store())
    monkeypatch.setenv("FARM_CACHE", str(tmp_path / "reader"))
    done = tool(*words, "--results", place)
    assert said in done.out and done.code in (0, 1), done.err
    if words[0] == "best":  # the file of the pick is here, compared with its record
        assert [*(tmp_path / "reader").rglob("model.onnx")]
    assert refused == [] and [*(tmp_path / "reader").glob("*/results")] == []


def test_a_sweep_is_watched_until_it_ends_without_the_right_to_write(
    s3_server: S3, refused: list[str], tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.cli.watch._REMOTE_PAUSE_S", 0.1)
    place = f"s3://{s3_server.bucket()}/team"
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_server.variables["AWS_ENDPOINT_URL"])
        driver = Results.at(place)
    running, ended = threading.Event(), threading.Event()

    def sweep() -> None:
        with driver.locked("s"):
            driver.write([row("a", sweep="s"), row("b", sweep="s", **PENDING)], "s")
            running.set()
            ended.wait(60)
            driver.write([row("a", sweep="s"), row("b", sweep="s")], "s")

    thread = threading.Thread(target=sweep, daemon=True)
    thread.start()
    assert running.wait(60)
    assert Results.at(place, only_read=True).running() == ["s"]
    threading.Timer(1.0, ended.set).start()
    done = tool("watch", "--results", place)
    thread.join()
    lines = [line.split(" ", 1)[1] for line in done.out.splitlines()]
    assert lines == [
        "1/2 a: ok, box AP 0.5000, p50 10.00 ms", "2/2 b: ok, box AP 0.5000, p50 10.00 ms",
        "sweep s has ended. 2 cells: 2 ok",
    ]  # fmt: skip
    assert refused == [] and done.code == 0


def test_a_matrix_is_kept_and_read_by_its_owner_alone(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    matrix = load_matrix(path)
    Results.at(place).keep_matrix(matrix)
    other = elsewhere(place, tmp_path, monkeypatch)
    assert other.kept_matrix(matrix.name).spec == matrix.spec
    (copy,) = other.folder.glob("sweeps/*.json")
    assert copy.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="is not kept here"):
        other.kept_matrix("another")


def test_a_sweep_runs_once_at_a_time(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = Results.at(place), elsewhere(place, tmp_path, monkeypatch)
    with own.locked("s"), other.locked("t"):
        with pytest.raises(InputError, match="sweep s is already running there") as error:
            other.locked("s").__enter__()
        assert error.value.where == place
    with other.locked("s"):
        pass


def test_what_a_killed_run_has_left_there_is_named_and_goes(
    place: str, tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, claim = Results.at(place), b'{"session": "0123456789abcdef"}'
    store = results.store()
    leave(store)
    store.objects.put("claims/ab", claim)
    store.objects.put("claims/sessions/0123456789abcdef", claim)
    monkeypatch.setattr(claims, "EXPIRES_S", 1.0)
    monkeypatch.setattr(claims, "ROUNDED_S", 1.0)
    time.sleep(3.0)
    words = ("gc", "--results", place, "--older-than", "1d")
    named = "1 claim of killed processes would be removed: ab.\n"
    assert tool(*words, "--dry-run").out.endswith(named)
    assert store.objects.get("claims/ab") == claim
    assert tool(*words).out.endswith(named.replace("would be removed", "removed"))
    assert [*store.objects.listed("claims")] == []
    store.objects.put("claims/ab", claim)
    time.sleep(3.0)
    remove_stale_work(store)  # as the next sweep does
    assert [*store.objects.listed("claims")] == []


def test_addresses_are_taken_from_wherever_folders_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_STORE", raising=False)
    monkeypatch.setenv("FARM_RESULTS", "gs://bucket/x")
    assert results_place(None) == "gs://bucket/x" and results_place("s3://b") == "s3://b"
    assert store_address("s3://b/x") == "s3://b/x/store"
    with pytest.raises(InputError, match="keeps results in folders only"):
        results_folder(None)
    monkeypatch.setenv("FARM_STORE", "az://all/stores")
    assert store_address("s3://b/x") == "az://all/stores"
    with pytest.raises(InputError, match="needs a store in a folder"):
        store_folder(tmp_path)


@pytest.mark.parametrize(
    ("place", "variables", "said"),
    [
        ("s3://none/x", {}, "farm: s3://none/x: there is no bucket 'none'\n"),
        ("s3://none/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
         "farm: s3://none/x: no connection to the service\n"),
        ("s3://none/x", {"AWS_ACCESS_KEY_ID": None},
         "farm: s3://none/x: no credentials were found; set AWS_ACCESS_KEY_ID and "
         "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "words",
    [
        ("run", "m.yaml", "--executor", "inline"), ("plan", "m.yaml"), ("leaderboard",),
        ("best", "--target", "cpu"), ("diff", "runtime=a", "runtime=b"), ("store", "verify"),
        ("reproduce", "x"), ("gc", "--keep-sweeps", "1"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_what_cannot_be_used_ends_with_2_and_one_line(
    s3: S3,
    tool: Tool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    place: str,
    variables: dict[str, str | None],
    said: str,
) -> None:
    (tmp_path / "m.yaml").write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    done = tool(*words, "--results", place)
    assert (done.code, done.out, done.err) == (2, "", said)


def test_without_the_package_it_is_said_how_to_get_it(
    s3: S3, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def absent(name: str, *words: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ImportError(name=name)
        return original(name, *words)

    monkeypatch.setattr(builtins, "__import__", absent)
    for name in [one for one in sys.modules if one.partition(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    opening._opened.cache_clear()
    done = tool("leaderboard", "--results", "s3://bucket/x")
    assert done.code == 2 and done.err == (
        "farm: s3://bucket/x: object stores need the package obstore: pip install 'farm[remote]'\n"
    )


def test_a_service_without_conditions_is_warned_of_and_used(
    s3_without_conditions: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use(s3_without_conditions, tmp_path, monkeypatch)
    results = Results.at(f"s3://{s3_without_conditions.bucket()}/x")
    with results.locked("s"):
        results.write([row("a", sweep="s")], "s")
    assert "keeps no conditions on puts (If-None-Match)" in capfd.readouterr().err
    assert results.read()[0]["cell"] == "a"


def test_results_in_a_folder_ask_nobody(tmp_path: Path) -> None:
    os.environ.pop("FARM_STORE", None)
    results = results_of(str(tmp_path / "r"))
    assert results.mirror is None and str(results) == str(tmp_path / "r")
    with results.locked("s"):
        results.write([row("a", sweep="s")], "s")
    assert results.read()[0]["cell"] == "a" and results.written("s") > 0

"""The harness itself: what it draws, sees and finds wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import chaos.lab
from chaos.checks import (
    Injected,
    complains_of_mlflow,
    different_rows,
    found_no_cluster,
    hit_twice,
    unexplained,
)
from chaos.faults import FAULTS
from chaos.faults.artifacts import flip, truncate
from chaos.lab import Lab, opened
from chaos.moments import Countdown, Moment
from chaos.places import FolderPlace
from chaos.processes import Kind, Process, Processes
from chaos.scenario import drawn_scenario
from chaos.scene import Scene
from chaos.steps import Event, Execution, FolderLog, ObjectLog
from chaos.tracker import proxy_of
from farm.engine.cluster.connect import connect
from farm.errors import ClusterLost, InputError

KEY, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("said", "complains"),
    [
        (
            "MLflow: http://127.0.0.1:42177/#/experiments/1/runs?workflowType=machine_learning",
            False,
        ),
        ("MLflow is not up to date; the same command run again logs the rest.", True),
        ("MLflow at http://127.0.0.1:1 could not be written (refused).", True),
        ("MLflow could not be written: its process ended with 1.", True),
        ("MLflow has the runs without their files: no right", True),
    ],
)
def test_the_link_to_mlflow_is_no_complaint(said: str, complains: bool) -> None:
    assert complains_of_mlflow(f"8 cells, 2 failed.\n{said}\n") is complains


def test_a_run_that_finds_no_cluster_says_so() -> None:
    with pytest.raises(InputError) as error:
        connect("127.0.0.1:1")  # where nothing listens
    assert found_no_cluster(f"farm: {error.value}\n")
    assert not found_no_cluster(f"farm: {ClusterLost()}\n")


def test_a_seed_always_draws_the_same_and_all_faults_are_drawn() -> None:
    assert drawn_scenario(7) == drawn_scenario(7) != drawn_scenario(8)
    seen = {one.fault.name for seed in range(300) for one in drawn_scenario(seed).planned}
    assert seen == set(FAULTS)
    named = drawn_scenario(7, ["sigint", "node-killed"])
    assert [one.fault.name for one in named.planned] == ["sigint", "node-killed"]


def test_a_moment_is_a_number_of_steps_of_a_stage_or_a_time() -> None:
    events = [Event("start", "build"), Event("end", "build"), Event("start", "verify")]
    assert Countdown(Moment("start", "verify", 1), 0).is_over(events)
    assert not Countdown(Moment("start", "build", 2), 0).is_over(events)
    later = Countdown(Moment("start", share=0.3), 10)
    assert [later.is_over(events), later.is_over(events)] == [False, True]
    assert Countdown(Moment("time", seconds=0), 0).is_over([])
    assert not Countdown(Moment("time", seconds=60), 0).is_over(events)
    assert not Countdown(Moment("between"), 0).is_over(events)


def test_the_log_tells_published_steps_from_those_that_were_lost(tmp_path: Path) -> None:
    log = FolderLog(tmp_path, {KEY: "build", OTHER: "measure"})
    one, two = tmp_path / f"tmp/{KEY}.host.1.2", tmp_path / f"tmp/{OTHER}.other-host.1.2"
    for folder in (one, two, tmp_path / "tmp/token.host.1.2"):
        folder.mkdir()
    assert log.poll(5) == [Event("start", "build"), Event("start", "measure")]
    one.rename(tmp_path / "done")
    shutil.rmtree(two)
    assert log.poll(5) == [Event("end", "build")]
    (first,), (second,) = log.by_key().values()
    assert first.published and not second.published
    assert first.ended is not None and first.began <= first.ended
    log.close()


def test_in_s3_a_step_is_published_by_its_record_alone(tmp_path: Path) -> None:
    records = [f"/b/r/store/check/bb/{OTHER}/record.json"]  # of another sweep
    log = ObjectLog([tmp_path / "0", tmp_path / "1"], {KEY: "build"}, records)
    for node in ("0", "1"):
        (tmp_path / node / "tmp" / f"{KEY}.host.1.2").mkdir()
    assert log.poll(5) == [Event("start", "build")] * 2
    (tmp_path / "1" / "tmp" / f"{KEY}.host.1.2").rename(tmp_path / "1" / "done")
    assert log.poll(5) == []
    records.append(f"/b/r/store/build/aa/{KEY}/record.json")
    assert log.poll(0) == [Event("end", "build")]
    (tmp_path / "0" / "tmp" / f"{KEY}.host.1.3").mkdir()  # fetched for the next step
    assert log.poll(5) == []
    assert [one.published for one in log.executions] == [False, True]
    log.close()


def test_a_step_that_was_begun_again_needs_a_fault_that_explains_it() -> None:
    killed = Injected(FAULTS["step-killed"], 10.0, 10.0, "")
    lost, done = Execution(KEY, 9, 11), Execution(KEY, 9, 11, published=True)
    again = Execution(KEY, 12, 13, published=True)
    assert unexplained({KEY: [lost, again]}, [killed], set()) == []
    for runs, injected in (
        ([lost, again], []),
        ([done, again], [killed]),
        ([lost, again], [Injected(FAULTS["step-killed"], 20.0, 20.0, "")]),
        ([lost, again], [Injected(FAULTS["sweep-beside"], 10.0, 10.0, "")]),
        ([lost, lost, again], [killed]),
    ):
        assert unexplained({KEY: runs}, injected, set())
    assert unexplained({KEY: [done, again]}, [killed], {KEY}) == []


def test_rows_are_compared_but_for_cells_that_were_hit_twice() -> None:
    wanted = {"x": {"status": "ok", "build_key": KEY}, "y": {"status": "ok", "build_key": OTHER}}
    found = {**wanted, "x": {"status": "failed", "build_key": KEY}}
    assert different_rows(wanted, wanted) == []
    (problem,) = different_rows(wanted, found)
    assert "status is 'failed', not 'ok'" in problem
    assert different_rows(wanted, {"x": wanted["x"]}) and different_rows({}, wanted)
    lost = Execution(KEY, 1, 2)
    assert hit_twice(wanted, {KEY: [lost, lost], OTHER: [lost]}) == ["x"]
    assert different_rows(wanted, found, ["x"]) == []


@pytest.fixture
def processes() -> Iterator[Processes]:
    own = Processes(f"test-{os.getpid()}-{time.monotonic_ns()}")
    yield own
    own.kill_all()


def test_only_processes_with_the_mark_are_found_and_killed(processes: Processes) -> None:
    sleep = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    marks: tuple[dict[str, str], ...] = (processes.variables(), processes.variables(2), {})
    pipe = subprocess.PIPE
    begun = [subprocess.Popen(sleep, env={**os.environ, **mark}, stdout=pipe) for mark in marks]
    for one in begun:
        assert one.stdout is not None and one.stdout.readline()
    assert {(one.pid, one.node) for one in processes.find()} == {
        (begun[0].pid, None), (begun[1].pid, 2),
    }  # fmt: skip
    stranger = Process(begun[2].pid, os.getpid(), None, Kind.OTHER, "")
    assert not processes.send(stranger, 9)  # type: ignore[arg-type]
    assert processes.kill_all(2) == 1 and begun[1].wait() == -9
    processes.kill_all()
    assert begun[0].wait() == -9 and begun[2].poll() is None
    begun[2].kill()
    begun[2].communicate()


def test_a_client_that_leaves_the_proxy_of_mlflow_is_passed_over(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # answers nothing
        port = server.getsockname()[1]
        tracker: Any = SimpleNamespace(pause_s=0.0, away=False, calls=0, port=port)
        proxy = proxy_of(tracker)
        client = socket.create_connection(("127.0.0.1", proxy.server_port))
        linger = struct.pack("ii", 1, 0)  # so that it leaves with a reset
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.sendall(b"GET /x HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        client.close()
        proxy.handle_request()
        proxy.server_close()  # waits for its threads
    assert "Traceback" not in capfd.readouterr().err
    try:
        raise ValueError("a fault of the proxy's own")
    except ValueError:
        proxy.handle_error(client, None)
    assert "a fault of the proxy's own" in capfd.readouterr().err


def test_sigterm_ends_the_harness_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it starts, too: whatever it has started by then is ended."""
    ended, before = list[str](), signal.getsignal(signal.SIGTERM)

    class Started(Lab):
        def start(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        def close(self) -> list[str]:
            os.kill(os.getpid(), signal.SIGTERM)  # a second one is too late
            ended.extend(super().close())
            return ["everything"]

    monkeypatch.setattr(chaos.lab, "Lab", Started)
    said = list[str]()
    with pytest.raises(SystemExit) as code, opened(said.append, lambda: False):
        pytest.fail("it began")
    assert code.value.code == 143 and ended == [] and said == ["left: everything"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_files_are_changed_by_damage(tmp_path: Path) -> None:
    path, scene = tmp_path / "x", Scene(random.Random(1), None, tmp_path, FolderPlace(tmp_path))  # type: ignore[arg-type]
    path.write_bytes(bytes(100))
    flip(scene, path)
    assert len(path.read_bytes()) == 100 and any(path.read_bytes())
    truncate(scene, path)
    assert path.stat().st_size < 100

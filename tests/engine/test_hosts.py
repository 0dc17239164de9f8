"""One measurement at a time on a machine, whatever sweep it is of."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.engine.workers import hosts
from farm.engine.workers.hosts import share_host

HOLD = """
import os, sys
os.environ["FARM_LOCKS"] = sys.argv[1]
from farm.engine.workers import hosts
with hosts.share_host(sys.argv[2] == "alone"):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(hosts.VARIABLE, str(tmp_path))
    return tmp_path


def other(folder: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        env={"PYTHONPATH": str(PROJECT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def inside(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == b"in\n"


def leave(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    assert process.wait(30) == 0


def test_steps_share_a_machine(folder: Path) -> None:
    process = other(folder, "shared")
    assert inside(process)
    with share_host(False):
        pass
    leave(process)


@pytest.mark.parametrize(("own", "theirs"), [(True, "shared"), (False, "alone"), (True, "alone")])
def test_a_measurement_is_alone(folder: Path, own: bool, theirs: str) -> None:
    process = other(folder, theirs)
    assert inside(process)
    began = time.monotonic()
    late = subprocess.Popen(["sleep", "0.7"])
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("sys.stdin.read()", ""), str(folder),
         "alone" if own else "shared"],
        env={"PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE,
    )  # fmt: skip
    late.wait()
    assert waiting.poll() is None
    leave(process)
    assert waiting.wait(30) == 0 and time.monotonic() - began >= 0.7


def test_who_waits_to_be_alone_is_not_overtaken(folder: Path) -> None:
    """Else a sweep with many steps would keep the measurements of another out for ever."""
    process = other(folder, "shared")
    assert inside(process)
    alone = other(folder, "alone")
    time.sleep(1.0)  # it waits at the door now
    third = other(folder, "shared")
    time.sleep(1.0)  # it would be inside by now if it could overtake
    leave(process)
    assert inside(alone)
    leave(alone)
    assert inside(third)
    leave(third)


def test_a_machine_without_a_temporary_folder_runs_steps_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hosts.VARIABLE, str(tmp_path / "gone"))
    with share_host(True), share_host(True):
        pass

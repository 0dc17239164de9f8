"""`farm watch`: a sweep as it fills, at a terminal and at a pipe, until it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from conftest import PROJECT, Tool
from rows import row

from farm.cli.places import locked, running
from farm.errors import InputError
from farm.results import leaderboard

PENDING = {"status": "pending", "box_ap": None, "latency_p50_ms": None, "reason": "not yet"}


def write(results: Path, *rows: dict[str, object]) -> None:
    leaderboard.write(list(rows), results, "s")


@contextlib.contextmanager
def watch(results: Path, *words: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "farm", "watch", *words, "--results", str(results)]
    with subprocess.Popen(command, cwd=PROJECT, text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(out: IO[str] | None) -> str:
    assert out is not None
    return out.readline().split(" ", 1)[1].rstrip("\n")  # without the time of day


@pytest.mark.slow
def test_a_pipe_gets_a_line_for_each_cell_and_the_end_of_the_sweep_is_its_end(
    tmp_path: Path,
) -> None:
    with locked(tmp_path, "s"):
        write(tmp_path, row("x"), row("y", **PENDING), row("z", **PENDING))
        with watch(tmp_path, stdout=subprocess.PIPE) as process:
            assert line_of(process.stdout) == "1/3 x: ok, box AP 0.5000, p50 10.00 ms"
            failed = row("y", status="failed", failed_stage="build", reason="no\x1b[2J\nmore")
            write(tmp_path, row("x"), failed, row("z", **PENDING))
            assert line_of(process.stdout) == "2/3 y: failed at build: no\\x1b[2J"
            os.utime(next(tmp_path.glob("leaderboard/*/*/*")))  # written again, and nothing is new
            time.sleep(1.2)  # longer than the pause between two looks
            write(tmp_path, row("x"), failed, row("z", box_ap=None))
            assert line_of(process.stdout) == "3/3 z: ok, p50 10.00 ms"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        with watch(tmp_path, "s", stdout=subprocess.PIPE) as process:
            for _ in range(3):
                line_of(process.stdout)
            last = process.stdout
            (tmp_path / "sweeps/s.lock").rename(tmp_path / "sweeps/gone")  # as if it had ended
            assert line_of(last) == "sweep s has ended. 3 cells: 2 ok, 1 failed"
            assert process.wait(20) == 0


@pytest.mark.slow
def test_a_terminal_gets_the_table_in_place(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with locked(tmp_path, "s"):
        write(tmp_path, row("x"), row("y", **PENDING))
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        with watch(tmp_path, stdout=follower, env=env) as process:
            os.close(follower)
            shown = ""
            while "2 cells: 1 ok, 1 pending" not in shown or "0.5000" not in shown:
                shown += os.read(leader, 4096).decode()
            (tmp_path / "sweeps/s.lock").rename(tmp_path / "sweeps/gone")
            while "Sweep s has ended" not in shown:
                shown += os.read(leader, 4096).decode()
            assert process.wait(20) == 0
    os.close(leader)
    assert shown.count("Leaderboard of sweep s") >= 2  # in place, and in full at the end
    assert "\x1b[2K" in shown and "\\x1b" not in shown  # what moves the cursor reaches it


def test_what_does_not_run_is_shown_as_it_is_and_what_is_not_there_is_refused(
    tool: Tool, tmp_path: Path
) -> None:
    place = tmp_path / "r"
    done = tool("watch", "--results", place)
    assert done.code == 2 and "no sweep runs or has run here" in done.err
    write(place, row("x"))
    done = tool("watch", "--results", place)
    assert done.code == 0 and "sweep s has ended. 1 cells: 1 ok" in done.out
    done = tool("watch", "t", "--results", place)
    assert done.code == 2 and "no sweep 't'" in done.err
    with locked(place, "a"), locked(place, "b"):
        done = tool("watch", "--results", place)
        assert done.code == 2 and "name one of a, b" in done.err


def test_to_ask_whether_a_sweep_runs_hinders_none_that_begins(tmp_path: Path) -> None:
    with locked(tmp_path, "s"):
        assert running(tmp_path) == ["s"]
    assert running(tmp_path) == []
    with (tmp_path / "sweeps/s.lock").open() as asked:
        fcntl.flock(asked, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(asked, fcntl.LOCK_UN)).start()
        with locked(tmp_path, "s"):
            assert running(tmp_path) == ["s"]
    with locked(tmp_path, "s"), pytest.raises(InputError, match="already running"):
        locked(tmp_path, "s").__enter__()

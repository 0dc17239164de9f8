"""Sweeps that are interrupted under Ray at moments drawn by a seed, most of them more than once.

FARM_INTERRUPTS=N draws N moments (from FARM_INTERRUPTS_SEED on) instead of one of each kind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # a Ray each

CELLS = 8
MOMENTS = {
    "while it is read": ("", 3.0),
    "while Ray starts": ("Checking", 6.0),
    "before the steps": ("Sweep nothing", 0.5),
    "between steps": ("[20/", 0.5),
    "at the end": ("[44/44]", 2.0),
}
"""After which text of stderr the signal comes, and within how many seconds."""

FIRST = int(os.environ.get("FARM_INTERRUPTS_SEED", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("FARM_INTERRUPTS") or len(MOMENTS)))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="i", dir="/tmp") as made:  # short, for Ray's sockets
        yield Path(made)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_interrupted_sweep_ends_with_130_and_leaves_nothing(
    folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    draw = random.Random(seed)
    text, within_s = list(MOMENTS.values())[seed % len(MOMENTS)]
    process = start(write_matrix(folder / "in", CELLS), folder)
    try:
        await_text(process, folder, text)
        pauses = [within_s, *draw.choice([[], [0.1], [1.0, 1.0]])]
        for pause in pauses:
            time.sleep(draw.uniform(0, pause))
            process.send_signal(draw.choice([signal.SIGINT, signal.SIGTERM]))
        code = process.wait(60)
    finally:
        process.kill()
    left = processes(folder)
    said = (folder / "stderr").read_text()
    assert code == 130 or (code, "0 failed" in said) == (0, True), said  # it had ended before
    assert "Traceback" not in said and left == []
    assert [*(folder / "tmp").iterdir(), *(folder / "ray").iterdir()] == []
    store = folder / "r" / "store"
    assert [*store.glob("tmp/*"), *store.glob("claims/*")] == []


def start(matrix: Path, folder: Path) -> subprocess.Popen[bytes]:
    for name in ("tmp", "ray", "locks"):
        (folder / name).mkdir()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "MLFLOW_", "RAY_"))}
    given = {
        "PYTHONPATH": PROJECT, "HOME": folder, "TMPDIR": folder / "tmp",
        "RAY_TMPDIR": folder / "ray", "FARM_LOCKS": folder / "locks", "INTERRUPTED": folder,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(folder / "r")],
        env=clean | {name: str(value) for name, value in given.items()},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr").open("wb"),
        # A shell that started the tests in the background has it ignored, for all below.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def await_text(process: subprocess.Popen[bytes], folder: Path, text: str) -> None:
    if not text:
        time.sleep(0.5)  # its own handlers are there then
    until = time.monotonic() + 240
    while text not in (folder / "stderr").read_text() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)


def processes(folder: Path) -> list[str]:
    """The processes that were started below a sweep of this folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or another user's
            if process.environ().get("INTERRUPTED") == str(folder):
                found.append(f"{process.status()} {process.cmdline()}")
    return found

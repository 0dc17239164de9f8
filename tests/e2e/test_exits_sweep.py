"""Whole sweeps with models whose code ends or harms its process, and interrupted ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from conftest import PROJECT, Farm

pytestmark = pytest.mark.slow

MATRIX = """\
name: exits
models:
{models}
opsets: [17]
shapes: {{fixed: {{opt: 64x64}}}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 2, seed: 7, size: 64}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10}}
compare: false
"""
MODEL = """\
  {name}: {{source: module, function: "{package}:{name}",
    classes: [circle, square, triangle, star],
    preprocess: {{mean: [1.0, 1.0, 1.0], std: [1.0, 1.0, 1.0], pad: 32}}}}"""
CODE = """\
import os, sys, threading, time
import torch

class Net(torch.nn.Module):
    def __init__(self, first=lambda: None):
        super().__init__()
        self.conv, self.first = torch.nn.Conv2d(3, 1, 1), first
    def forward(self, x):
        self.first()
        n = x.shape[0]
        dets = torch.zeros(n, 1, 5) + self.conv(x).mean()
        return dets, torch.zeros(n, 1, dtype=torch.int64)

def rude():
    print("x" * 99)
    threading.Thread(target=time.sleep, args=(9999,)).start()
    os.chdir("/")
    sys.stdout = sys.stderr = None
    os.closerange(0, 3)

def hang():
    while True: pass

def good(): return Net()
def good_but_rude(): rude(); return Net(rude)
def exits_at_once(): os._exit(0)
def lacks_memory(): raise MemoryError
def forward_exits(): return Net(lambda: sys.exit(0))
def forward_exits_at_once(): return Net(lambda: os._exit(0))
"""
IMPORT_EXITS = "import sys\nsys.exit(0)\ndef import_exits(): pass\n"

MORE = "`limits: {check: TIME}` in the matrix allows more"


def matrix(folder: Path, *names: str, more: str = "") -> Path:
    (folder / "exits_code.py").write_text(CODE)
    (folder / "exits_import.py").write_text(IMPORT_EXITS)
    packages = {"import_exits": "exits_import"}
    models = [MODEL.format(name=n, package=packages.get(n, "exits_code")) for n in names]
    (folder / "m.yaml").write_text(MATRIX.format(models="\n".join([*models, more])))
    return folder / "m.yaml"


def rows(results: Path) -> dict[str, tuple[str, str | None, str | None]]:
    """By model: status, stage and reason."""
    found = pd.read_parquet(results / "leaderboard").set_index("model").astype(object)
    found = found.where(found.notna(), None)
    return {
        name: (row["status"], row["failed_stage"], row["reason"]) for name, row in found.iterrows()
    }


def test_only_the_cells_of_a_model_that_ends_its_process_fail(tmp_path: Path, farm: Farm) -> None:
    (tmp_path / "segv.py").write_text("import ctypes; ctypes.string_at(0)")
    weights = PROJECT / "matrices/demo/onestage.pth"
    config = f"  segv: {{config: {tmp_path}/segv.py, checkpoint: {weights}}}"
    names = ("exits_at_once", "lacks_memory", "import_exits", "good", "good_but_rude")
    names += ("forward_exits",)
    words = (matrix(tmp_path, *names, more=config), "--executor", "inline", "--no-mlflow")
    done = farm("run", *words, "--results", tmp_path / "r")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "x" * 99 not in done.stdout + done.stderr
    assert "7 cells, 5 failed" in done.stderr
    ended = "its code raised SystemExit: 0"
    assert rows(tmp_path / "r") == {
        "exits_at_once": ("failed", "check", "its code ended the process with exit code 0"),
        "lacks_memory": (
            "failed", "check",
            f"{tmp_path}/exits_code.py: exits_code:lacks_memory cannot be called: MemoryError: ",
        ),
        "import_exits": ("failed", "check", ended),
        "segv": ("failed", "check", "its code ended by signal 11 (Segmentation fault)"),
        "forward_exits": ("failed", "check", ended),  # a module is run there
        "good": ("ok", None, None),
        "good_but_rude": ("ok", None, None),
    }  # fmt: skip


def test_a_check_that_hangs_costs_its_own_cells_and_its_own_minutes(
    tmp_path: Path, farm: Farm
) -> None:
    """Found by the next run too, without waiting for it again."""
    words = ("--executor", "inline", "--no-mlflow", "--results", tmp_path / "r")
    first = farm("run", matrix(tmp_path, "good"), *words)
    assert first.returncode == 0, first.stderr
    both = (matrix(tmp_path, "good", "hang"), *words)
    for _ in range(2):
        started = time.monotonic()
        done = farm("run", *both, "limits.check=6s")
        assert done.returncode == 1, done.stderr
        reason = f"it did not finish within 6.0s; {MORE}"
        assert rows(tmp_path / "r")["hang"] == ("failed", "check", reason)
        assert rows(tmp_path / "r")["good"][0] == "ok"
    assert time.monotonic() - started < 6
    done = farm("run", *both, "limits.check=7s")
    assert "it did not finish within 7.0s" in str(rows(tmp_path / "r")["hang"][2]), done.stderr


def marked(mark: str) -> list[str]:
    """The processes that have been begun below one with this mark in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def left(mark: str) -> list[str]:
    """`marked`, once Ray's own processes have had the time to end."""
    deadline = time.monotonic() + 60
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@contextmanager
def listening() -> Iterator[set[str]]:
    """Where the processes that are started meanwhile listen for TCP: addresses without ports."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            for one in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    sockets = one.net_connections("tcp")
                    found.update(each.laddr.ip for each in sockets if each.status == "LISTEN")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def test_under_ray_too_on_loopback_alone_and_nothing_of_it_is_left(
    tmp_path: Path, farm: Farm
) -> None:
    names = ("good", "exits_at_once", "forward_exits_at_once")
    words = ("--no-mlflow", "--results", tmp_path / "r")
    mark = f"EXITS_MARK={tmp_path}"
    env = {"HOME": str(tmp_path), "EXITS_MARK": str(tmp_path)}
    with listening() as addresses:
        done = farm("run", matrix(tmp_path, *names), *words, env=env)
    assert {one.removeprefix("::ffff:") for one in addresses} == {"127.0.0.1"}
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("Leaderboard") and "Traceback" not in done.stderr
    found = rows(tmp_path / "r")
    assert found["good"][0] == "ok"
    assert found["exits_at_once"][2] == "its code ended the process with exit code 0"
    assert found["forward_exits_at_once"][2] == "its code ended the process with exit code 0"
    assert not (tmp_path / ".ray").exists()  # its token is in the folder of its session
    assert left(mark) == []
    assert list((tmp_path / "r/store/tmp").iterdir()) == []


HOOK = """\
import os, signal, sys
def hook(event, args):
    if event == os.environ["KILL_EVENT"] and os.environ["KILL_AT"] in str(args):
        if not os.environ.pop("KILLED", None):
            os.environ["KILLED"] = "1"
            os.kill(os.getpid(), int(os.environ["KILL_BY"]))
sys.addaudithook(hook)
"""


@pytest.mark.parametrize(
    ("event", "at", "by"),
    [
        ("import", "farm.cli.main", signal.SIGTERM),
        ("import", "pydantic", signal.SIGINT),
        ("import", "farm.sweep", signal.SIGTERM),
        ("subprocess.Popen", "forkserver import serve", signal.SIGTERM),
        ("subprocess.Popen", "gcs_server", signal.SIGTERM),
        ("subprocess.Popen", "raylet/raylet", signal.SIGINT),
    ],
)
def test_a_signal_at_any_moment_is_130_and_leaves_no_process(
    tmp_path: Path, event: str, at: str, by: signal.Signals
) -> None:
    """At the start, while Ray starts, and in a check (which here is the last process begun)."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    env: dict[str, Any] = {
        **os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}", "HOME": str(tmp_path),
        "KILL_EVENT": event, "KILL_AT": at, "KILL_BY": str(int(by)), "EXITS_MARK": str(tmp_path),
    }  # fmt: skip
    words = ["run", str(matrix(tmp_path, "hang")), "--results", str(tmp_path / "r"), "--no-mlflow"]
    if "farm" in at or at.startswith("forkserver"):
        words += ["--executor", "inline"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "farm", *words], env=env, cwd=tmp_path, capture_output=True,
        text=True, timeout=120, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "nterrupted" in done.stderr
    assert not left(f"EXITS_MARK={tmp_path}")
    assert time.monotonic() - started < 60

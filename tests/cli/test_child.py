"""A command that runs in a child process: however that ends, the command ends with a message."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT, run_farm

SCRIPT = """
import argparse, ctypes, os, signal, subprocess, sys, tempfile, time
from farm import interrupts
from farm.cli import child
from farm.engine.workers.limits import Limit
from farm.errors import InputError

Limit.most_bytes = property(lambda _: 300 << 20)
child._END_S = 2.0

def command(options):
    {code}

signal.signal(signal.SIGINT, signal.default_int_handler)
options = argparse.Namespace(in_child=True)
interrupts.to_the_end(lambda: child.run(command, options))
"""


def begin(code: str, temporary: Path) -> subprocess.Popen[str]:
    script = SCRIPT.format(code=code.replace("\n", "\n    "))
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**buffered, "PYTHONPATH": str(PROJECT), "TMPDIR": str(temporary)},
        start_new_session=True,
    )  # fmt: skip


CRASH = "ctypes.string_at(0)"
ENDS = {
    "print('said'); return 3": (3, "said", ""),
    f"import atexit; atexit.register(lambda: {CRASH}); print('said'); return 3": (3, "said", ""),
    "raise InputError('wrong', 'x.py')": (2, "", "farm: x.py: wrong"),
    "sys.exit('bye')": (1, "", "farm: the model's code raised SystemExit: bye"),
    f"tempfile.mkdtemp(); {CRASH}": (
        1, "", "farm: the model's code, or a library's, ended the process by signal 11"
        " (Segmentation fault); -v shows where"
    ),
    "os._exit(0)": (1, "", "farm: the model's code ended the process with exit code 0"),
    "os.kill(os.getpid(), signal.SIGKILL)": (
        1, "", "farm: the model's code, or a library's, ended the process by signal 9 (Killed);"
        " out of memory?"
    ),
    "kept = bytearray(b'1' * (500 << 20)); time.sleep(60)": (
        1, "", "farm: it used more than 300MiB of memory"
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", ENDS)
def test_a_child_that_ends_ends_the_command_with_its_reason(tmp_path: Path, code: str) -> None:
    process = begin(code, tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out.strip(), err.strip()) == ENDS[code]
    assert list(tmp_path.iterdir()) == []


def test_processes_that_it_has_left_end_with_the_command(tmp_path: Path) -> None:
    code = "own = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    process = begin(f"{code}print(own.pid, flush=True); {CRASH}", tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert not psutil.pid_exists(int(out))


CLEARS_UP = """\
tempfile.mkdtemp()
try:
    print("runs", flush=True); time.sleep(60)
finally:
    time.sleep(0.5); print("cleared up")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_both_and_reaches_the_child_once(tmp_path: Path, number: int) -> None:
    """Ctrl-C is sent to both, as a terminal does, and perhaps again while the child clears up."""
    process = begin(CLEARS_UP, tmp_path)
    send = os.killpg if number == signal.SIGINT else os.kill
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    for _ in range(20):
        send(process.pid, number)
        time.sleep(0.01)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "cleared up\n", "farm: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_is_deaf_to_an_interrupt_is_killed(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('runs', flush=True)"
    process = begin(f"tempfile.mkdtemp(); {code}; time.sleep(60)", tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "runs\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "farm: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_child_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    process = begin("print(os.getpid(), flush=True); time.sleep(60)", tmp_path)
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    child.wait(30)


@pytest.mark.slow
def test_a_config_that_crashes_is_no_crash_of_the_single_tools(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import ctypes\nctypes.string_at(0)\n")
    (tmp_path / "w.pth").write_bytes(b"0")
    (tmp_path / "tmp").mkdir()
    done = run_farm(
        "-v", "test", "bad.py", "w.pth", "--backend", "torch", "--eval", "bbox", cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "by signal 11 (Segmentation fault)" in done.stderr
    assert "in string_at" in done.stderr and "Extension modules" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []

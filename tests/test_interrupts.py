"""How a program ends that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import PROJECT

from farm import interrupts
from farm.interrupts import Interrupted

CODE = """
import atexit, signal, time
from farm import interrupts

def clear_up():
    print("clears up", flush=True)
    time.sleep(1)
    print("has cleared up", flush=True)

def main():
    atexit.register(clear_up)
    print("runs", flush=True)
    time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)
interrupts.to_the_end(main)
"""


@pytest.fixture(autouse=True)
def no_signals() -> Iterator[None]:
    """Of these tests, for those after them."""
    yield
    interrupts.forget()


def test_a_second_ctrl_c_does_not_cut_off_what_the_first_one_has_begun() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for said in ("runs\n", "clears up\n"):
        assert process.stdout.readline() == said
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "has cleared up\n"
    assert process.wait(30) == 130


def test_a_signal_waits_for_the_end_of_what_must_be_done_as_a_whole() -> None:
    done = []
    with interrupts.handled(signal.SIGTERM):
        with pytest.raises(Interrupted), interrupts.deferred():
            with interrupts.deferred():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        with interrupts.deferred():  # it came before
            done.append("next")
    assert done == ["inner", "outer", "next"]


def test_another_signal_changes_nothing_while_the_first_is_handled() -> None:
    done = []
    with interrupts.handled(signal.SIGTERM):
        try:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                try:
                    raise OSError("while it clears up")
                except OSError:
                    signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
                done.append("has cleared up")
        except Interrupted:
            done.append("ends")
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    assert done == ["has cleared up", "ends"]


AT_ONCE = """
import sys
from farm import interrupts

class Crashes:
    def __del__(self): print("crashes", flush=True)

def main():
    sys.kept = Crashes()
    interrupts.end_at_once()
    print("ends", end="")
    return 3

interrupts.to_the_end(main)
"""


def test_what_cannot_clear_up_is_not_asked_to() -> None:
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", AT_ONCE]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "ends", "")


def test_an_alarm_that_would_abort_the_process_is_off() -> None:
    """Ray's handler of SIGTERM sets one before it calls this one."""
    with interrupts.handled(signal.SIGTERM), pytest.raises(Interrupted):
        signal.alarm(60)
        signal.raise_signal(signal.SIGTERM)
    assert signal.alarm(0) == 0


CLOSED = """
import os, sys
from farm import interrupts

def main():
    print("lost", file=sys.stderr)
    os.write(3, f"{sys.stdin.read()!r} {open(os.devnull).fileno()}".encode())

interrupts.to_the_end(main)
"""


def test_a_program_without_standard_streams_gives_their_numbers_to_no_other_file() -> None:
    line = f"exec {sys.executable} -c '{CLOSED}' 3>&1 <&- >&- 2>&-"
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "'' 4")

"""How a program ends that is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from conftest import PROJECT

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

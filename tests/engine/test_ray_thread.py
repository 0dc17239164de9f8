"""The thread in which Ray starts and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("ray")

from farm import interrupts
from farm.engine.cluster import ray_thread
from farm.engine.workers.processes import descendants
from farm.interrupts import Interrupted


def test_what_ray_raises_comes_to_who_has_called_it() -> None:
    its = ray_thread.call(threading.current_thread)
    assert its.name == "ray" and its.daemon  # or this process would never end
    with pytest.raises(ZeroDivisionError):
        ray_thread.call(lambda: 1 // 0)


def test_another_thread_may_call_which_can_set_no_handler() -> None:
    with ThreadPoolExecutor() as other:
        other.submit(ray_thread.call, lambda: time.sleep(0.05)).result()


def test_rays_handler_of_sigterm_does_not_stay() -> None:
    """Python's `signal.signal` works in the main thread alone, Ray's own code anywhere."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    with interrupts.handled(signal.SIGTERM), pytest.raises(Interrupted):
        ray_thread.call(lambda: libc.signal(signal.SIGTERM, signal.SIG_DFL))
        signal.raise_signal(signal.SIGTERM)
    interrupts.forget()


def test_a_signal_interrupts_who_waits_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_thread, "abandon", lambda: None)
    goes_on = threading.Event()
    waiting = threading.main_thread().ident
    assert waiting is not None
    with interrupts.handled(signal.SIGTERM), pytest.raises(Interrupted):
        threading.Timer(0.2, signal.pthread_kill, (waiting, signal.SIGTERM)).start()
        ray_thread.call(lambda: (time.sleep(0.5), goes_on.set()))
    interrupts.forget()
    assert goes_on.wait(30)
    with pytest.raises(TimeoutError):
        ray_thread.call(lambda: time.sleep(0.5), 0.1)


def test_what_the_thread_has_started_is_killed_with_all_below_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_thread, "_END_S", 600.0)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", "setsid sleep 600 & setsid sleep 600"])

    other, its = subprocess.Popen(["sleep", "600"]), ray_thread.call(start)
    until = time.monotonic() + 30
    while len(found := descendants(its.pid)) < 2:
        assert time.monotonic() < until
    for _ in range(2):  # the second time there is nothing to wait for
        ray_thread.kill_started()
        assert not any(map(ray_thread._runs, (its.pid, *found)))
    assert its.wait(30) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not ray_thread._runs(other.pid) and ray_thread._runs(os.getpid())
    other.wait()

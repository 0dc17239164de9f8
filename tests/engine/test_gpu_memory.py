"""How the GPU memory of a step comes to what other steps ask for; NVML by a stand-in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from own_stage import step

from farm.engine.estimates import Estimates
from farm.engine.interfaces import Executor, Unwatched
from farm.engine.scheduler import run_steps
from farm.engine.workers.perform import perform
from farm.measuring import gpu_memory
from farm.plan import Needs, Step
from farm.runtimes.tensorrt import cuda
from farm.specs import Gpu, Target
from farm.store import Store

GIB = 1 << 30
L4 = Target("gpu", "L4", "L4", "8.9", "580")
UNTIL_SEEN = """
import time, pynvml
until = time.monotonic() + 10
while pynvml.looks < 3 and time.monotonic() < until:
    time.sleep(0.01)
"""


class NvmlError(Exception):
    """NVML's only error here."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what puts `pynvml` and an L4 into this process."""

    def put(own: tuple[int | None, ...], all_in_use: int) -> None:
        """own: what NVML says of this process, look by look; the last is said again."""
        said, module = [*own], ModuleType("pynvml")

        def processes(device: str) -> list[Any]:
            module.looks += 1  # type: ignore[attr-defined]
            mine = said.pop(0) if len(said) > 1 else said[0]
            others = [SimpleNamespace(pid=1, usedGpuMemory=7 * GIB)]
            return others + [SimpleNamespace(pid=os.getpid(), usedGpuMemory=mine)] * bool(mine)

        functions: dict[str, Any] = {
            "looks": 0,
            "NVMLError": NvmlError,
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda identity: identity,
            "nvmlDeviceGetComputeRunningProcesses": processes,
            "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(used=all_in_use),
        }
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        monkeypatch.setattr(gpu_memory, "first_uuid", lambda: "3b6a0a3e")
        monkeypatch.setattr(cuda, "gpus", lambda: (Gpu("NVIDIA L4", "8.9", "580.1", 24 * GIB),))

    return put


def on_gpu() -> Step:
    return step(UNTIL_SEEN, Needs(accelerator="L4", shares_gpu=True), target=L4)


def found_again(one: Step, store: Store) -> Estimates:
    """What the next sweep learns of a step that is in the store."""

    def start() -> Executor:
        raise AssertionError("nothing is to be run")

    estimates = Estimates()
    run_steps({one.key: one}, store, start, Unwatched(), estimates=estimates)
    return estimates


def test_the_peak_of_a_step_is_what_steps_of_its_kind_ask_for(
    nvml: Callable[..., None], tmp_path: Path
) -> None:
    """In the sweep that has run it, and in one that finds its record."""
    nvml(own=(2 * GIB, 4 * GIB, GIB), all_in_use=20 * GIB)
    one, store, estimates = on_gpu(), Store(tmp_path / "store"), Estimates()
    outcome = perform(one, str(store.root))
    assert (outcome.status, outcome.gpu_bytes) == ("done", 4 * GIB), outcome.reason
    record = store.record(one.ref)
    assert record is not None and record.peak_gpu_bytes == 4 * GIB
    estimates.learn(one, outcome)
    assert estimates.gpu_bytes(one) == found_again(one, store).gpu_bytes(one) == 6 * GIB


@pytest.mark.parametrize(("share", "peak"), [({}, 9 * GIB), ({"gpu_share": 0.5}, 0)])
def test_where_processes_are_not_told_apart_only_a_step_alone_on_a_gpu_has_a_peak(
    share: dict[str, float], peak: int, nvml: Callable[..., None], tmp_path: Path
) -> None:
    """As in a container; of a part of a GPU all that is in use would be others' memory, too."""
    nvml(own=(None,), all_in_use=9 * GIB)
    one, store, estimates = on_gpu(), Store(tmp_path / "store"), Estimates()
    outcome = perform(one, str(store.root), **share)  # type: ignore[arg-type]
    assert (outcome.status, outcome.gpu_bytes) == ("done", peak), outcome.reason
    record = store.record(one.ref)
    assert record is not None and record.peak_gpu_bytes == peak
    estimates.learn(one, outcome)
    assert estimates.gpu_bytes(one) == found_again(one, store).gpu_bytes(one) == 1.5 * peak


def test_a_step_that_shares_no_gpu_is_not_watched(
    nvml: Callable[..., None], tmp_path: Path
) -> None:
    nvml(own=(GIB,), all_in_use=GIB)
    one = step("", Needs(accelerator="L4"), target=L4)
    assert perform(one, str(tmp_path / "store")).gpu_bytes == 0
    assert sys.modules["pynvml"].looks == 0

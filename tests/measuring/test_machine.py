"""The state of the machine around a measurement; NVML by a stand-in of the functions used."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farm.measuring import gpu, gpu_memory, machine
from farm.measuring.gpu import figures_of, gpu_figures, throttling
from farm.measuring.gpu_memory import used_bytes, watched_gpu_memory
from farm.measuring.machine import CpuTimes, others, ranges, watched_machine
from farm.store.figures import MACHINE, require_figures

UUID = "3b6a0a3e-0000-4000-8000-00000000abcd"
BURN = "import time\nwhile time.process_time() < 0.5: pass"


def times(at: float, busy: float, stolen: float, total: float, own: float) -> CpuTimes:
    return CpuTimes(at, busy, stolen, total, own)


def test_what_other_processes_and_other_machines_took() -> None:
    since, until = times(10, 100, 5, 1000, 50), times(12, 103.5, 6, 1008, 51.5)
    assert others(since, until) == (1.0, 0.125)  # (3.5 - 1.5) s of 2 s; 1 s of 8 s
    idle = times(12, 101.4, 5, 1008, 51.5)  # the kernel's ticks are coarser than the own clock
    assert others(since, idle) == (0.0, 0.0)
    assert others(since, times(10, 100, 5, 1000, 50)) == (0.0, 0.0)


def test_a_machine_that_is_watched_tells_its_figures_of_their_kinds() -> None:
    with watched_machine() as figures:
        assert figures == {}
    assert set(figures) == {name for name in MACHINE if not name.startswith("gpu_")}
    require_figures("measure", {**figures, "latency_p50_ms": 1.0, "throughput_per_s": 1.0})
    assert figures["affinity"] and figures["load_before"] is not None


def test_the_look_before_is_no_longer_than_needed() -> None:
    """A short measurement has none; what opens the engine is a part of it."""
    began = time.monotonic()
    with watched_machine(lasts_s=0.001) as figures:
        assert time.monotonic() - began < machine.LOOK_SECONDS / 2
    assert figures["busy_cores_before"] is None is figures["steal_fraction_before"]
    require_figures("measure", {**figures, "latency_p50_ms": 1.0, "throughput_per_s": 1.0})
    earlier = CpuTimes.now()
    time.sleep(machine.LOOK_SECONDS)
    began = time.monotonic()
    with watched_machine(since=earlier) as figures:
        assert time.monotonic() - began < machine.LOOK_SECONDS / 2
    assert figures["busy_cores_before"] is not None
    began = time.monotonic()
    with watched_machine():
        assert time.monotonic() - began >= machine.LOOK_SECONDS


def test_own_work_is_not_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter(
        [times(0, 0, 0, 0, 0), times(1, 0.1, 0, 2, 0), times(3, 2.6, 0.6, 6, 2)]  # 0.5 s of others
    )
    monkeypatch.setattr(CpuTimes, "now", lambda: next(counted))
    with watched_machine() as figures:
        pass
    assert (figures["busy_cores_before"], figures["busy_cores"]) == (0.1, 0.25)
    assert (figures["steal_fraction_before"], figures["steal_fraction"]) == (0.0, 0.15)


@pytest.mark.parametrize(("busy", "said"), [(0.49, []), (0.5, ["0.5 cores"]), (1.7, ["1.7 cores"])])
def test_a_busy_machine_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, busy: float, said: list[str]
) -> None:
    counted = iter([times(0, 0, 0, 0, 0), times(1, busy, 0, 2, 0), times(2, busy, 0, 4, 0)])
    monkeypatch.setattr(CpuTimes, "now", lambda: next(counted))
    records: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: records.append(record.getMessage()))
    machine.log.addHandler(handler)
    try:
        with watched_machine():
            pass
    finally:
        machine.log.removeHandler(handler)
    assert records == [f"the machine is busy with other things: {one}" for one in said]


def test_the_kernels_counters_tell_the_work_of_other_processes() -> None:
    """By processor time, which a slow machine does not change."""
    since = CpuTimes.now()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    until = CpuTimes.now()
    assert until.own - since.own < 0.25  # this process only waited
    assert (until.busy - since.busy) - (until.own - since.own) > 0.2
    assert until.total > since.total and until.at > since.at


def test_cores_are_written_as_linux_does() -> None:
    assert ranges([0, 1, 2, 3, 8]) == "0-3,8" and ranges([5]) == "5" and ranges([]) == ""


def test_the_governors_of_all_cores(tmp_path: Path) -> None:
    assert machine._governor(tmp_path) is None
    for number, name in enumerate(("powersave", "performance", "powersave")):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{name}\n")
    assert machine._governor(tmp_path) == "performance, powersave"


class NvmlError(Exception):
    pass


def nvml(mig: bool = False, reasons: int = 0x4, lacks: tuple[str, ...] = ()) -> Any:
    """What is used of the module `pynvml`, with one GPU; of a MIG instance only itself is known."""

    def by_uuid(identity: str) -> str:
        if identity != f"{'MIG' if mig else 'GPU'}-{UUID}":
            raise NvmlError(f"not found: {identity}")
        return "instance" if mig else "device"

    def of_device(name: str, value: Any) -> Any:
        def read(device: str, *_: Any) -> Any:
            if device != "device" or name in lacks:
                raise NvmlError("not supported")
            return value[_[0]] if isinstance(value, dict) else value

        return read

    return SimpleNamespace(
        NVMLError=NvmlError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlClocksThrottleReasonGpuIdle=0x1,
        nvmlClocksThrottleReasonSwPowerCap=0x4,
        nvmlClocksThrottleReasonSwThermalSlowdown=0x20,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceIsMigDeviceHandle=lambda device: device == "instance",
        nvmlDeviceGetDeviceHandleFromMigDeviceHandle=lambda instance: "device",
        nvmlDeviceGetName=lambda device: b"NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        nvmlDeviceGetEnforcedPowerLimit=of_device("power", 350_000),
        nvmlDeviceGetCurrentClocksThrottleReasons=of_device("reasons", reasons),
        nvmlDeviceGetClockInfo=of_device("clock", {1: 1980, 2: 2619}),
        nvmlDeviceGetTemperature=of_device("temperature", {0: 61}),
    )


GPU = {
    "gpu_sm_mhz": 1980, "gpu_memory_mhz": 2619, "gpu_power_limit_w": 350.0,
    "gpu_throttling": "power cap", "gpu_temperature_c": 61, "gpu_mig": "off",
}  # fmt: skip


def test_a_gpu_tells_clocks_power_limit_throttling_and_heat() -> None:
    assert figures_of(nvml(), UUID) == GPU
    assert set(GPU) == {name for name in MACHINE if name.startswith("gpu_")}
    require_figures("measure", {**GPU, "latency_p50_ms": 1.0, "throughput_per_s": 1.0})


def test_a_mig_instance_has_its_profile_and_the_clocks_of_its_gpu() -> None:
    assert figures_of(nvml(mig=True), UUID) == {**GPU, "gpu_mig": "1g.10gb"}


def test_what_a_gpu_does_not_tell_is_null() -> None:
    found = figures_of(nvml(lacks=("power", "reasons", "clock")), UUID)
    told = {"gpu_temperature_c": 61, "gpu_mig": "off"}
    assert found == {**dict.fromkeys(GPU), **told}


def test_the_memory_of_a_process_is_its_own_or_that_of_a_gpu_without_others() -> None:
    library = nvml()
    library.nvmlDeviceGetMemoryInfo = lambda device: SimpleNamespace(used=9 << 30)
    others = [SimpleNamespace(pid=1, usedGpuMemory=5 << 30)]
    library.nvmlDeviceGetComputeRunningProcesses = lambda device: others
    assert used_bytes(library, "device", 7, alone=False) == 0
    assert used_bytes(library, "device", 7, alone=True) == 9 << 30  # as in a container
    others.append(SimpleNamespace(pid=7, usedGpuMemory=2 << 30))
    assert used_bytes(library, "device", 7, alone=True) == 2 << 30
    others[-1].usedGpuMemory = None  # no right to know
    assert used_bytes(library, "device", 7, alone=False) == 0

    def fails(device: str) -> Any:
        raise NvmlError("not supported")

    library.nvmlDeviceGetComputeRunningProcesses = fails
    assert used_bytes(library, "device", 7, alone=True) == 9 << 30


@pytest.mark.parametrize("broken", ["absent", "no driver", "no device", "not wanted"])
def test_without_a_gpu_its_memory_stays_unknown_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    library = without_a_gpu(monkeypatch, broken)
    library.nvmlDeviceGetComputeRunningProcesses = lambda device: []
    library.nvmlDeviceGetMemoryInfo = lambda device: SimpleNamespace(used=9 << 30)
    for wanted in (False, broken != "not wanted"):
        with watched_gpu_memory(wanted, alone=True) as peak:
            pass
        assert peak.bytes == 0


def without_a_gpu(monkeypatch: pytest.MonkeyPatch, broken: str) -> SimpleNamespace:
    """Let this process find no NVML, none that works, or no GPU, whatever the machine has.

    Returns the stand-in of NVML, of which nothing is broken where `broken` says none of these.
    """

    def fail() -> None:
        raise NvmlError("the driver is not loaded")

    library = nvml()
    library.nvmlInit = fail if broken == "no driver" else lambda: None
    library.nvmlShutdown = fail
    monkeypatch.setitem(sys.modules, "pynvml", None if broken == "absent" else library)
    for one in (gpu, gpu_memory):
        monkeypatch.setattr(one, "first_uuid", lambda: "another" if broken == "no device" else UUID)
    return library


def test_reasons_for_a_lowered_clock_have_names() -> None:
    library = nvml()
    assert throttling(library, 0) == "none"
    assert throttling(library, 0x24) == "power cap, heat"
    assert throttling(library, 0x8000) == "unknown (0x8000)"


@pytest.mark.parametrize("broken", ["absent", "no driver", "no device"])
def test_a_machine_without_nvml_has_no_figures_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    without_a_gpu(monkeypatch, broken)
    assert gpu_figures() == {}
    with watched_machine(gpu=True) as figures:
        pass
    assert figures["affinity"] and not any(name.startswith("gpu_") for name in figures)


def test_the_functions_are_those_of_the_real_library() -> None:
    """As far as it goes without a GPU: their names, and the constants."""
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py comes with the extras for GPUs")
    assert not {name for name in vars(nvml()) if not hasattr(real, name)}
    for name in gpu.THROTTLING:
        assert hasattr(real, f"nvmlClocksThrottleReason{name}"), name

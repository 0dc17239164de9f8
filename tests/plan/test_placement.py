"""Processors, cores and GPUs as the machine says them, and where it says nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.plan.machines import placement
from farm.plan.machines.placement import Gpu


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was asked of this machine is asked again, before and after."""
    cached = (placement.cpu_model, placement.cores, placement.gpus)
    for one in cached:
        one.cache_clear()
    yield
    for one in cached:
        one.cache_clear()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc and /sys of another machine."""
    monkeypatch.setattr(placement, "Path", lambda name: tmp_path / str(name).lstrip("/"))
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    return tmp_path


def test_a_processor_is_of_the_kind_that_the_system_tells(system: Path) -> None:
    (system / "proc" / "cpuinfo").write_text(
        "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\n"
        "model name : AMD EPYC\nflags : sse avx2\n"
    )
    assert placement.cpu_model() == "AMD EPYC, Zen 4 (avx2)"


def test_a_processor_of_which_nothing_is_known_is_what_python_says(system: Path) -> None:
    expected = platform.processor() or platform.machine()
    assert placement.cpu_model() == expected  # there is no /proc
    (system / "proc" / "cpuinfo").write_text("processor : 0\ncpu : POWER9\n")
    placement.cpu_model.cache_clear()
    assert placement.cpu_model() == expected


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4),
     ("nonsense", 4), (None, 4)],
)  # fmt: skip
def test_cores_are_those_that_the_container_may_use(
    quota: str | None, cores: int, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    if quota is not None:
        (system / "sys" / "fs" / "cgroup" / "cpu.max").write_text(f"{quota}\n")
    assert placement.cores() == cores


def program(folder: Path, text: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_gpus_are_those_that_nvidia_smi_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path, "echo 'NVIDIA L4, 8.9, 580.95.05'; echo 'Tesla T4, 7.5, 580.95.05'")
    found = placement.gpus()
    assert found == (Gpu("NVIDIA L4", "8.9", "580.95.05"), Gpu("Tesla T4", "7.5", "580.95.05"))
    assert str(found[0]) == "NVIDIA L4 (8.9, driver 580)"


def test_the_memory_of_a_gpu_is_known_unless_it_is_cut_into_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    lines = [
        "NVIDIA L4, 8.9, 580.1, 23034 MiB, [N/A]",
        "NVIDIA L4, 8.9, 580.1, 46068 MiB, Disabled",
    ]
    program(tmp_path, "; ".join(f"echo '{line}'" for line in lines))
    found = placement.gpus()
    assert [one.memory_bytes >> 20 for one in found] == [23034, 46068]
    machine = placement.Machine("h", "cpu", {}, found)
    assert machine.gpu_memory_bytes == 23034 << 20
    lines[1] = lines[1].replace("Disabled", "Enabled")
    program(tmp_path, "; ".join(f"echo '{line}'" for line in lines))
    placement.gpus.cache_clear()
    assert placement.Machine("h", "cpu", {}, placement.gpus()).gpu_memory_bytes == 0
    assert placement.Machine("h", "cpu", {}).gpu_memory_bytes == 0


@pytest.mark.parametrize("text", ["exit 9", "echo 'No devices were found'", None])
def test_a_machine_without_gpus_has_none(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if text else str(tmp_path))
    if text:
        program(tmp_path, text)
    assert placement.gpus() == ()

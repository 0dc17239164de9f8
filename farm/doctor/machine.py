"""What the machine itself has: Python, processor, memory, disk, compiler."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from farm.findings import Finding
from farm.plan.placement import cores, cpu_model

SWEEP_DISK_GB = 5


def python() -> Finding:
    """Return which Python runs."""
    return Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def cpu() -> Finding:
    """Return the processor, as plans name it: a target's `device` is written like this."""
    return Finding("CPU", "ok", f"{cpu_model()}, {cores()} cores for this process")


def memory() -> Finding:
    """Return how much memory there is."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", "ok", f"{total / 2**30:.1f} GiB")


def disk(results: Path) -> Finding:
    """Return the free space where the results go, or at the nearest folder that exists."""
    wanted = results.absolute()
    there = next(folder for folder in (wanted, *wanted.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:.0f} GB free for {wanted}"
    if free < SWEEP_DISK_GB:
        return Finding("disk", "warning", found, "make room, or name another results folder")
    return Finding("disk", "ok", found)


def compiler() -> Finding:
    """Return the C++ compiler that mmcv-full is built with."""
    if path := shutil.which(os.environ.get("CXX") or "g++"):
        return Finding("g++", "ok", path)
    return Finding("g++", "warning", "not found; mmcv-full is built with it", "apt-get install g++")

"""The store's disk is full."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from chaos.faults.fault import Fault
from chaos.scene import NoTarget, Scene

SIZE = 64 << 20
"""Of a small disk, in bytes; the artifacts of the sweep are a few megabytes."""


def mount(folder: Path) -> bool:
    """Mount a small disk at the folder; return whether this user may do that."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "chaos", str(folder)]
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False


def unmount(folder: Path) -> None:
    """Unmount it, as soon as nobody uses it any more."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)


def fill(scene: Scene) -> str:
    """Fill the store's disk; for a while, or until the run has ended."""
    if not scene.small:
        raise NoTarget("the store is not on a disk of its own: only root can mount one")
    filler = scene.store / "filler"
    if filler.exists():
        raise NoTarget("the disk is full")
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    seconds = scene.rng.choice([scene.rng.uniform(0.2, 3), 600.0])
    scene.after(seconds, lambda: filler.unlink(missing_ok=True))
    free = os.statvfs(scene.store).f_bavail
    last = "until the run ends" if seconds == 600 else f"for {seconds:.1f} s"
    return f"filled the store's disk {last} ({free} blocks are free)"


FAULTS = (
    Fault(
        "disk-full", "store", fill,
        ends=frozenset({1, 2}), undone=True, repeats=3, lasts=True, small_disk=True,
    ),
)  # fmt: skip

"""This machine as the target that an engine is built for."""

from __future__ import annotations

import subprocess

from farm.catalog import RUNTIMES
from farm.errors import InputError
from farm.inputs import Target
from farm.plan.devices import cpu_model


def this_machine(runtime: str) -> Target:
    """Its CPU, or for runtimes of accelerators its GPU, as a sweep's target would name it.

    Raises:
        InputError: there is no such device.
    """
    if not RUNTIMES[runtime].accelerators:
        return Target("cpu", cpu_model())
    kind = gpu_kind(_first_gpu())
    return Target(kind.lower(), kind, kind)


def gpu_kind(name: str) -> str:
    """As Ray names it: the words after the maker's, up to the first that holds a digit.

    `NVIDIA H200` is `H200`, `Tesla V100-SXM2-16GB` is `V100`.
    """
    kept: list[str] = []
    for word in name.split()[1:]:
        kept.append(word.split("-")[0])
        if any(letter.isdigit() for letter in word):
            break
    return " ".join(kept) or name


def _first_gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return found.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        raise InputError("this runtime needs a GPU, and nvidia-smi finds none here") from None

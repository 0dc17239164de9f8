"""How much GPU memory a process needs, by NVML (nvidia-ml-py), looked at many times a second.

By what is found, steps may share a GPU. Nothing here fails a step: what cannot be read is 0.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from farm.measuring.gpu import device_of, first_uuid

log = logging.getLogger(__name__)

_PAUSE_S = 0.05
"""Between two looks, in seconds: an engine keeps its memory for as long as it is open."""


@dataclass
class Peak:
    """The most that was found so far, in bytes."""

    bytes: int = 0


@contextmanager
def watched_gpu_memory(wanted: bool, alone: bool) -> Iterator[Peak]:
    """Yield the peak of the first GPU's memory of this process, which is known after the block.

    wanted: else it stays 0, and nothing is asked. alone: no other step is on that GPU, so that all
    of its memory in use is this process's where NVML does not tell processes apart (in containers).
    """
    peak, ends = Peak(), threading.Event()
    if not wanted:
        yield peak
        return

    def watch() -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            device = device_of(pynvml, first_uuid())
        except Exception as error:  # of many kinds: no package, no driver, no GPU, no right
            log.debug("the GPU's memory is not watched: %s", error)
            return
        with suppress(pynvml.NVMLError):
            while True:
                peak.bytes = max(peak.bytes, used_bytes(pynvml, device, os.getpid(), alone))
                if ends.wait(_PAUSE_S):
                    return

    thread = threading.Thread(target=watch, name="gpu-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ends.set()
        thread.join(1.0)


def used_bytes(nvml: Any, device: Any, pid: int, alone: bool) -> int:
    """Return how much of a GPU's memory a process uses; 0 where that cannot be known.

    nvml: the module `pynvml`, after `nvmlInit`. alone: as of `watched_gpu_memory`.

    Raises:
        nvml.NVMLError: the GPU does not answer.
    """
    with suppress(nvml.NVMLError):  # a driver without it
        for one in nvml.nvmlDeviceGetComputeRunningProcesses(device):
            if one.pid == pid and one.usedGpuMemory:
                return int(one.usedGpuMemory)
    return int(nvml.nvmlDeviceGetMemoryInfo(device).used) if alone else 0

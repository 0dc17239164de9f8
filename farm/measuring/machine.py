"""The state of the machine around a measurement: what else ran on it, its clocks, its GPU's."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from farm.measuring.gpu import gpu_figures

log = logging.getLogger(__name__)

LOOK_SECONDS, LEAST_SECONDS = 0.1, 0.05
"""How long the machine is looked at before a measurement, and below which time nothing is said of
it: the kernel counts in ticks of 10 ms."""

BUSY_CORES = 0.5
"""From so many cores' worth of other processes on there is a warning."""

_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class CpuTimes:
    """Counters in seconds. busy, stolen, total: of all cores together, stolen by other virtual
    machines; own: used by this process."""

    at: float
    busy: float
    stolen: float
    total: float
    own: float

    @classmethod
    def now(cls) -> CpuTimes:
        """Read the counters."""
        known = psutil.cpu_times()._asdict()
        stolen = known.get("steal", 0.0)
        busy = sum(known.get(one, 0.0) for one in ("user", "nice", "system", "irq", "softirq"))
        total = busy + stolen + known["idle"] + known.get("iowait", 0.0)
        return cls(time.monotonic(), busy, stolen, total, time.process_time())


def others(since: CpuTimes, until: CpuTimes) -> tuple[float, float]:
    """Return how many cores other processes kept busy, and the fraction of the machine's CPU time
    that was stolen by other virtual machines."""
    busy = (until.busy - since.busy) - (until.own - since.own)
    stolen, total = until.stolen - since.stolen, until.total - since.total
    cores = max(0.0, busy) / max(until.at - since.at, 1e-9)
    return round(cores, 3), round(min(1.0, stolen / total), 4) if total > 0 else 0.0


@contextmanager
def watched_machine(
    gpu: bool = False, since: CpuTimes | None = None, lasts_s: float = LOOK_SECONDS
) -> Iterator[dict[str, Any]]:
    """Watch the machine while the block measures; warn if it is busy with other things already.

    gpu: the measured engine runs on a GPU, the first that this process sees. since: the counters
    when this process began to prepare the measurement, which is a part of the look before.
    lasts_s: how long the measurement is, in seconds; the look before need not be longer.

    Yields a dictionary that has the figures when the block has ended (`store.figures.MACHINE`
    names their kinds; docs/method.md says what they mean). Those that this machine does not tell
    are None.
    """
    figures: dict[str, Any] = {}
    first = since or CpuTimes.now()
    time.sleep(max(0.0, min(LOOK_SECONDS, lasts_s) - (time.monotonic() - first.at)))
    before, load, mhz = CpuTimes.now(), _load(), _cpu_mhz()
    looked = before.at - first.at >= LEAST_SECONDS
    cores, stolen = others(first, before) if looked else (None, None)
    if cores is not None and cores >= BUSY_CORES:
        log.warning("the machine is busy with other things: %.1f cores", cores)
    yield figures
    figures |= gpu_figures() if gpu else {}  # first of all: an idle GPU lowers its clocks
    figures |= {"cpu_mhz_before": mhz, "cpu_mhz": _cpu_mhz()}
    figures |= {"busy_cores_before": cores, "steal_fraction_before": stolen, "load_before": load}
    figures["busy_cores"], figures["steal_fraction"] = others(before, CpuTimes.now())
    figures |= {"load_after": _load(), "affinity": _affinity(), "governor": _governor()}


def peak_host_bytes() -> int:
    """Return the peak of this process's resident memory, in bytes.

    A step's worker resets it when the step begins."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def now() -> str:
    """Return the time in UTC to the second, as `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _load() -> float | None:
    """The load average of the last minute."""
    with suppress(OSError):
        return os.getloadavg()[0]
    return None


def _cpu_mhz() -> float | None:
    """The mean clock of all cores."""
    with suppress(OSError, AttributeError, NotImplementedError):
        if (found := psutil.cpu_freq()) and found.current > 0:
            return round(float(found.current), 1)
    return None


def _affinity() -> str | None:
    """The cores that this process may use, as Linux writes them: `0-3,8`."""
    try:
        return ranges(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):  # not Linux
        return None


def ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers with their runs in short: `0-3,8`."""
    starts = [one for one in numbers if one - 1 not in numbers]
    ends = [one for one in numbers if one + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in pairs)


def _governor(cpus: Path = _CPUS) -> str | None:
    """The frequency governors of all cores; None in most virtual machines, which show none."""
    files = cpus.glob("cpu[0-9]*/cpufreq/scaling_governor")
    with suppress(OSError):
        return ", ".join(sorted({one.read_text().strip() for one in files})) or None
    return None

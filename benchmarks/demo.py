"""The wall time of the demo's sweep beside its bound.

The bound: the shared work divided by the cores, and what is timed alone on the machine with its
warm-up.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planning import Figure

from farm.plan.machines.placement import cores
from farm.store import Record, read_record

PROJECT = Path(__file__).resolve().parent.parent


def figures(results: Path, rounds: int) -> Iterator[Figure]:
    """Run the demo anew, once, and yield its wall time over its bound."""
    own = results / "demo"
    shutil.rmtree(own, ignore_errors=True)
    command = [sys.executable, "-m", "farm", "run", str(PROJECT / "matrices" / "demo.yaml")]
    began = time.perf_counter()
    subprocess.run([*command, "--results", str(own)], check=True, capture_output=True)
    passed = time.perf_counter() - began
    records = [read_record(path) for path in (own / "store").glob("*/*/*/record.json")]
    alone = {"measure": measured_s, "compare": compared_s}
    shared = sum(one.seconds for one in records if one.stage not in alone) / cores()
    timed = sum(alone[one.stage](one) for one in records if one.stage in alone)
    print(f"  {passed:.0f} s; shared work {shared:.0f} s a core, timed {timed:.0f} s")
    yield Figure("the demo's sweep over its bound", passed / (shared + timed), 1.1)


def measured_s(record: Record) -> float:
    """Return the seconds of the samples of a `measure`, of its warm-up and of its throughput."""
    asked = record.inputs
    throughput = (
        asked["seconds"] if asked["throughput_seconds"] is None else asked["throughput_seconds"]
    )
    return sampled_s(record.figures) + float(asked["warmup_seconds"]) + float(throughput)


def compared_s(record: Record) -> float:
    """Return the seconds of the samples of a `compare`; those of untimed runs are not known."""
    return sum(map(sampled_s, record.figures["entrants"].values()))


def sampled_s(figures: Mapping[str, Any]) -> float:
    return float(figures["samples"]) * float(figures["latency_mean_ms"]) / 1e3

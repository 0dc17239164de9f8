"""What this machine can run, what is missing, and how to get it: `farm doctor`.

Every library is tried in a process of its own: one that crashes is a finding, not the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from farm.catalog import RUNTIMES
from farm.doctor import machine
from farm.doctor.finding import lines
from farm.doctor.how import HOW, how
from farm.doctor.libraries import probes
from farm.findings import Finding

__all__ = ["HOW", "NEEDED", "Finding", "can_sweep", "cpu_runtimes", "print_report", "report"]

PATIENCE_S = 180  # first imports on a cold, busy disk
NEEDED = ("Python", "onnx")
SOURCES = {
    "mmdet": ("torch", "mmcv-full", "mmdet"),
    "module": ("torch",),
    "onnx": ("onnxruntime",),  # the reference of ready files
}
"""What the models of each source need beside that."""


def report(results: Path = Path("results")) -> list[Finding]:
    """Everything `farm doctor` looks at, in the order it is shown; takes some seconds."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        libraries = list(pool.map(_try, probes()))
    return [
        machine.python(),
        *libraries,
        machine.cpu(),
        machine.memory(),
        machine.disk(results),
        machine.compiler(),
    ]


def cpu_runtimes() -> set[str]:
    """The runtimes that `farm doctor` looks for and that run engines on a CPU."""
    return {name for name, one in RUNTIMES.items() if one.probe and not one.accelerators}


def can_sweep(findings: list[Finding]) -> bool:
    """Returns whether a sweep can run on this machine's CPU, of the models of some source."""
    return bool(sources(findings))


def sources(findings: list[Finding]) -> list[str]:
    """Returns the sources whose models can be swept on this machine's CPU."""
    works = {finding.name for finding in findings if finding.status != "missing"}
    if not works.issuperset(NEEDED) or works.isdisjoint(cpu_runtimes()):
        return []
    return [name for name, needed in SOURCES.items() if works.issuperset(needed)]


def verdict(findings: list[Finding]) -> str:
    """Returns the last line of the report: what a sweep here can have in it."""
    found = sources(findings)
    if not found:
        return "A sweep cannot run here yet: see above."
    if lacking := [name for name in SOURCES if name not in found]:
        return (
            f"A sweep can run on this CPU, with models of `source: {'` or `'.join(found)}`.\n"
            f"Those of `{'` or `'.join(lacking)}` need what is missing above."
        )
    return "A sweep can run on this CPU."


def print_report(results: Path = Path("results")) -> int:
    """Show the findings within 80 columns. Returns 0 when a sweep can run on the CPU, else 1."""
    findings = report(results)
    for finding in findings:
        print(lines(finding))
    print()
    print(verdict(findings))
    return 0 if can_sweep(findings) else 1


def _try(name: str) -> Finding:
    """Run the probe called `name` in a child; a child that fails is a finding too."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-W", "ignore", "-m", "farm.doctor", name]
    try:
        child = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "missing", f"no answer within {PATIENCE_S} s", how(name))
    if child.returncode == 0:
        return Finding(**json.loads(child.stdout.strip().splitlines()[-1]))
    return Finding(name, "missing", _why(child), how(name))


def _why(child: subprocess.CompletedProcess[str]) -> str:
    if child.returncode < 0:
        return f"crashes when it is used ({signal.Signals(-child.returncode).name})"
    said = child.stderr.strip().splitlines() or ["no message"]
    return f"does not work: {said[-1]}"

"""What this machine can run, what is missing, and how to get it: `farm doctor`.

Every library is tried in a process of its own: one that crashes is a finding, not the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from farm import catalog
from farm.doctor import checks
from farm.doctor.checks import HOW, cpu_runtimes, how, probes
from farm.runtimes.base import Finding, installed

__all__ = [
    "HOW",
    "Finding",
    "can_sweep",
    "cpu_runtimes",
    "print_report",
    "report",
    "sources",
    "tried",
]

TIMEOUT_S = 180  # first imports on a cold, busy disk
NEEDED = ("Python", *catalog.OWN_STAGES["export"].packages)
"""What a sweep needs whatever its models come from."""

WIDTH = 80


def report(results: Path = Path("results")) -> list[Finding]:
    """Return everything that `farm doctor` looks for, in the order it is shown; takes seconds.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    return [
        checks.python(),
        *tried(probes()),
        checks.cpu(),
        checks.memory(),
        checks.disk(results),
        checks.compiler(),
    ]


def tried(names: Iterable[str]) -> list[Finding]:
    """Return the findings of these probes, which run in processes of their own; takes seconds."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        return list(pool.map(_try, names))


def can_sweep(findings: list[Finding]) -> bool:
    """Return whether a sweep can run on this machine's CPU, of the models of some source."""
    return bool(sources(findings))


def sources(findings: list[Finding]) -> list[str]:
    """Return the sources whose models can be swept on this machine's CPU.

    Raises:
        InputError: another package's entry point for a source or runtime is broken.
    """
    works = {finding.name for finding in findings if finding.status != "missing"}
    if not works.issuperset(NEEDED) or works.isdisjoint(cpu_runtimes()):
        return []
    probed = probes().keys()

    def there(package: str) -> bool:
        return package in works if package in probed else installed(package)

    return [name for name, one in catalog.SOURCES.items() if all(map(there, one.packages))]


def verdict(findings: list[Finding]) -> str:
    """Return the last lines of the report: which models a sweep on this machine can have.

    Raises:
        InputError: as `sources`.
    """
    found = sources(findings)
    if not found:
        return "A sweep cannot run here yet: see above."
    lacking = [name for name in catalog.SOURCES if name not in found]
    if not lacking:
        return "A sweep can run on this CPU."
    lines = (
        f"A sweep can run on this CPU, with models of `source: {'` or `'.join(found)}`.",
        f"Those of `{'` or `'.join(lacking)}` need what is missing above.",
    )
    return "\n".join(textwrap.fill(line, WIDTH) for line in lines)


def print_report(results: Path = Path("results")) -> int:
    """Print the findings within 80 columns. Return 0 when a sweep can run on the CPU, else 1.

    Raises:
        InputError: as `sources`.
    """
    findings = report(results)
    for finding in findings:
        print(lines(finding))
    print()
    print(verdict(findings))
    return 0 if can_sweep(findings) else 1


def lines(finding: Finding) -> str:
    """Return a finding as it is shown: its status, its name, and how to get what is missing."""
    head = f"{finding.status:<8} {finding.name:<12} "
    indent = " " * len(head)
    found = textwrap.fill(finding.found, WIDTH, initial_indent=head, subsequent_indent=indent)
    if not finding.how:
        return found
    # A command must stay in one piece: no break at its hyphens, none inside its words.
    command = textwrap.fill(
        finding.how,
        WIDTH,
        initial_indent=f"{indent}-> ",
        subsequent_indent=f"{indent}   ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"{found}\n{command}"


def _try(name: str) -> Finding:
    """Run the probe called `name` in a child; a child that fails is a finding too."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-W", "ignore", "-m", "farm.doctor", name]
    try:
        child = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "missing", f"no answer within {TIMEOUT_S} s", how(name))
    if child.returncode == 0:
        return Finding(**json.loads(child.stdout.strip().splitlines()[-1]))
    return Finding(name, "missing", _failure_of(child), how(name))


def _failure_of(child: subprocess.CompletedProcess[str]) -> str:
    """Say how a probe's process failed: by which signal, or with which last message."""
    if child.returncode < 0:
        return f"crashes when it is used ({signal.Signals(-child.returncode).name})"
    messages = child.stderr.strip().splitlines() or ["no message"]
    return f"does not work: {messages[-1]}"

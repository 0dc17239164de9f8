"""What plans and results cost: seconds and memory of planning, and a finished sweep run once more.

    python benchmarks/planning.py [--results DIR] [--rounds N]

The sweep of 1,000 cells takes minutes, and is kept in DIR for the next time. Times of planning are
of this process alone (CPU) and the least of N rounds, since other programs only ever add to them.
The exit code is 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import null_sweep

PROJECT = Path(__file__).resolve().parent.parent
FEW, MANY, SWEEP = 10_000, 100_000, 1_000
"""Cells."""


@dataclass(frozen=True)
class Figure:
    """What was measured, and the most that it may be."""

    name: str
    value: float
    most: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.most

    def __str__(self) -> str:
        met = "met" if self.met else "MISSED"
        return f"{self.name:<52} {self.value:>9.3f} {self.unit:<3} (<= {self.most:g}) {met}"


@dataclass(frozen=True)
class Planning:
    """seconds: of CPU, to read the matrix and to plan it. size: bytes that the process grew by."""

    cells: int
    seconds: float
    size: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "null")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = list(planning_figures(options.rounds))
    found.append(finished_sweep(options.results.resolve(), options.rounds))
    for figure in found:
        print(figure)
    return 0 if all(figure.met for figure in found) else 1


def planning_figures(rounds: int = 3) -> Iterator[Figure]:
    """Plan many and very many cells: seconds, and whether a cell costs the same in both."""
    with tempfile.TemporaryDirectory() as scratch:
        few = planning(Path(scratch, "few"), FEW, rounds)
        many = planning(Path(scratch, "many"), MANY, rounds)
    yield Figure(f"planning {many.cells} cells", many.seconds, 10, "s")
    ratio = (many.seconds / many.cells) / (few.seconds / few.cells)
    yield Figure("seconds a cell, of very many over many", ratio, 1.2)
    yield Figure(f"memory per 10000 cells, of {few.cells}", _per_10000(few), 50, "MB")
    yield Figure(f"memory per 10000 cells, of {many.cells}", _per_10000(many), 50, "MB")


def _per_10000(planned: Planning) -> float:
    return planned.size / planned.cells * 10_000 / 1e6


def planning(folder: Path, cells: int, rounds: int = 3) -> Planning:
    """Plan a matrix of so many cells, each time in a new process; return the least of each."""
    matrix, found = null_sweep.write_matrix(folder, cells), []
    for _ in range(rounds):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(_planned, matrix).result())
    return Planning(cells, min(one.seconds for one in found), min(one.size for one in found))


def _planned(path: Path) -> Planning:
    from farm import specs
    from farm.config.loader import load_matrix
    from farm.plan import make_plan
    from farm.specs.pipeline import Pipeline

    facts = specs.ModelFacts(("circle",), False, Pipeline().text)
    small = null_sweep.write_matrix(path.parent / "small", 4)
    make_plan(load_matrix(small), lambda _: facts)  # what a process does once
    before, began = _resident(), time.process_time()
    plan = make_plan(load_matrix(path), lambda _: facts)
    return Planning(len(plan.cells), time.process_time() - began, _resident() - before)


def _resident() -> int:
    """Return the memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


def finished_sweep(results: Path, rounds: int = 3, cells: int = SWEEP) -> Figure:
    """Run a sweep in which nothing is left to do: seconds of wall, with the process's start.

    The sweep itself is run first where `results` does not have it.
    """
    matrix = null_sweep.write_matrix(results / "matrix", cells)
    null_sweep.run(matrix, results, "--executor", "inline")
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        null_sweep.run(matrix, results, "--executor", "inline")
        seconds.append(time.perf_counter() - began)
    return Figure(f"a finished sweep of {cells} cells run again", min(seconds), 3, "s")


if __name__ == "__main__":
    sys.exit(main())

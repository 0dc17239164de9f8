"""The pick among 200 cells of known speed, on a simulated machine whose clock they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from trust_checks import Check

from farm.ranking.ranks import ranked
from farm.ranking.rounds import Rules, run_rounds
from farm.results.candidates import fastest

CELLS, SPREAD = 200, 0.3
"""How many cells, and the deviation of the logarithm of their times around 10 ms."""

MEASURE_S = 0.8
"""What the first measurement of a cell takes by default, with its warm-up."""

SECONDS = 4.0
"""The default budget of a comparison for each engine. The exhaustive measurement uses it up for
all cells: they run in every block, and none drops out."""

LEAST_RIGHT, MOST_TIME = 0.95, 0.25


@dataclass
class Machine:
    """Runs take their true time, a noise of their own, and a load that comes and goes.

    drift: the deviation of the logarithm of the load, which changes within seconds.
    """

    seed: int
    noise: float = 0.05
    drift: float = 0.15
    now: float = 0.0
    level: float = 0.0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def taken(self, milliseconds: float, runs: int = 4) -> float:
        """Return the median time of a block of an engine, after which the time has passed."""
        seconds = runs * milliseconds / 1e3
        keep = float(np.exp(-seconds / 2))  # the load changes within two seconds
        self.level = keep * self.level + (1 - keep**2) ** 0.5 * self.random.normal(0, self.drift)
        found = milliseconds * float(np.exp(self.level + self.random.normal(0, self.noise)))
        self.now += runs * found / 1e3
        return found

    def engine(self, milliseconds: float) -> Callable[[], float]:
        """Return an engine for `run_rounds`."""
        return lambda: self.taken(milliseconds)


def picks(repeats: int) -> list[Check]:
    """Pick by the farm's two parts, and by running all cells in every block."""
    random, right, shares = np.random.default_rng(1), 0, []
    for seed in range(repeats):
        times = [float(one) for one in 10 * np.exp(random.normal(0, SPREAD, CELLS))]
        machine = Machine(seed)
        chosen = _raced(machine, times, seed)
        everything = Machine(seed + repeats)
        tied = _exhaustive(everything, times, seed)
        right += chosen in tied
        shares.append(machine.now / everything.now)
    share = float(np.mean(shares))
    return [
        Check(
            f"pick among {CELLS} cells as by measuring all of them",
            f"{right} of {repeats}, in {share:.0%} of the time",
            f">= {LEAST_RIGHT:.0%}, <= {MOST_TIME:.0%}",
            right >= LEAST_RIGHT * repeats and share <= MOST_TIME,
        )
    ]


def _raced(machine: Machine, times: Sequence[float], seed: int) -> int:
    """The pick of a short measurement of all cells and a comparison of candidates."""
    rows: list[dict[str, Any]] = []
    for index, one in enumerate(times):
        blocks = [machine.taken(one) for _ in range(max(3, int(MEASURE_S * 1e3 / (4 * one))))]
        rows.append({
            "cell": index, "latency_p50_ms": float(np.median(blocks)), "stable": True,
            "latency_min_ms": min(blocks), "box_ap": 0.5, "busy_cores": 0.0,
        })  # fmt: skip
    candidates = [row["cell"] for row in fastest(rows)]
    rules = Rules(max_seconds=SECONDS * len(candidates), seed=seed)
    engines = [machine.engine(times[one]) for one in candidates]
    rounds = run_rounds(engines, rules, lambda: machine.now)
    ranks = ranked(rounds.times, rules)
    best = min(range(len(ranks)), key=lambda one: (ranks[one].rank, _value(ranks[one].vs_best)))
    return int(candidates[best])


def _value(ratio: Any) -> float:
    return float(ratio.value) if ratio else float("inf")


def _exhaustive(machine: Machine, times: Sequence[float], seed: int) -> set[int]:
    """The cells that blocks of all of them cannot tell from the best."""
    random, blocks = np.random.default_rng(seed), list[list[float]]()
    while machine.now < SECONDS * len(times):
        blocks.append([0.0] * len(times))
        for index in random.permutation(len(times)):
            blocks[-1][index] = machine.taken(times[index])
    found = np.array(blocks)
    rules, medians = Rules(), np.median(np.log(found), axis=0)
    near = [int(one) for one in np.argsort(medians)[:30]]
    ranks = ranked(found[:, near], rules)
    return {cell for cell, one in zip(near, ranks, strict=True) if one.rank == 1}

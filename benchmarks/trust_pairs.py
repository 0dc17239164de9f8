"""Two engines at a time: equal ones, and one that is slower by 2 %."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from trust_checks import Check, Floats, opened, small_network

from farm.measuring.sampling import sample, summarise
from farm.ranking.ranks import ranked
from farm.ranking.rounds import Rules, run_rounds
from farm.runtimes import Session
from farm.stages.turns import Timed

SLOWER = 0.02
MOST_DIFFERENT, LEAST_FOUND, MOST_SECONDS = 0.05, 0.80, 60.0


class Slowed:
    """A session whose runs take longer by a fraction of what they took."""

    def __init__(self, session: Session, by: float) -> None:
        self._session, self._by = session, by

    def run(self, images: Floats) -> dict[str, Any]:
        """Run, and wait on the processor."""
        before = time.perf_counter()
        outputs = self._session.run(images)
        until = time.perf_counter() + self._by * (time.perf_counter() - before)
        while time.perf_counter() < until:
            pass
        return outputs

    def close(self) -> None:
        """Close the session."""
        self._session.close()


def equal_pairs(folder: Path, pairs: int, seconds: float) -> list[Check]:
    """Compare one engine with itself: called different by the farm, and by the rule before."""
    images = small_network(folder / "equal.onnx")
    different = by_the_old_rule = 0
    for seed in range(pairs):
        both = [opened(folder / "equal.onnx", "onnxruntime", images) for _ in range(2)]
        by_the_old_rule += _differ_by_the_old_rule(both, images)
        ranks, _ = _compared(both, images, Rules(max_seconds=seconds, seed=seed))
        different += ranks != [1, 1]
        _say(f"equal {seed + 1}: {different} different, {by_the_old_rule} by the old rule")
    return [
        Check(
            "one engine as two cells, called different",
            f"{different} of {pairs}; by the rule before: {by_the_old_rule}",
            f"<= {MOST_DIFFERENT:.0%}",
            different <= MOST_DIFFERENT * pairs,
        )
    ]


def _differ_by_the_old_rule(sessions: list[Session], images: Floats) -> bool:
    """Whether medians differ by twice the deviation over the root of the samples."""
    medians, noises = [], []
    for session in sessions:
        samples, _ = sample(session, images, 1.0, 1.0, 10)
        figures = summarise(samples, np.empty(0), 1)
        medians.append(figures["latency_p50_ms"])
        noises.append(figures["latency_cov"] / len(samples) ** 0.5)
    return bool(abs(medians[0] - medians[1]) / min(medians) >= 2 * max(noises))


def slower_pairs(folder: Path, pairs: int, seconds: float) -> list[Check]:
    """Compare an engine with one that is slower by 2 %: how often that is found, and when."""
    images = small_network(folder / "slower.onnx")
    found, longest = 0, 0.0
    for seed in range(pairs):
        first, second = (opened(folder / "slower.onnx", "onnxruntime", images) for _ in range(2))
        rules = Rules(max_seconds=seconds, seed=seed)
        ranks, taken = _compared([Slowed(first, SLOWER), second], images, rules)
        found, longest = found + (ranks == [2, 1]), max(longest, taken)
        _say(f"slower {seed + 1}: {found} found, {taken:.1f} s")
    holds = found >= LEAST_FOUND * pairs and longest <= MOST_SECONDS
    return [
        Check(
            f"an engine slowed by {SLOWER:.0%}, found",
            f"{found} of {pairs}, in at most {longest:.0f} s",
            f">= {LEAST_FOUND:.0%}, <= {MOST_SECONDS:.0f} s",
            holds,
        )
    ]


def _compared(sessions: list[Any], images: Floats, rules: Rules) -> tuple[list[int], float]:
    """The ranks of engines, and how long the comparison took in seconds."""
    began = time.perf_counter()
    engines = [Timed(session, images) for session in sessions]
    for engine in engines:
        engine.warm_up()
    rounds = run_rounds(engines, rules)
    for session in sessions:
        session.close()
    ranks = [one.rank for one in ranked(rounds.times, rules)]
    return ranks, time.perf_counter() - began


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

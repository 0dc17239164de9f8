"""compare: measured engines in turn on one node, so that they are ranked by paired differences."""

from __future__ import annotations

import hashlib
import logging
import math
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from farm.datasets.prepared import Prepared
from farm.errors import FailureKind, TransientFailure, failure_kind
from farm.measuring.machine import now, watched_machine
from farm.measuring.sampling import no_collection, summarise
from farm.ranking.intervals import Ratio, Ratios
from farm.ranking.ranks import ranked
from farm.ranking.rounds import Rules, run_rounds
from farm.stages.engines import opened
from farm.stages.measure import fitted
from farm.store.figures import LATENCY

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.ranking.intervals import Times
    from farm.runtimes import Session
    from farm.specs import CompareInputs, Entrant
    from farm.stages import Context

log = logging.getLogger(__name__)

_RUNS, _MOST_RUNS = 3, 50
"""How many runs the fastest engine has in its turn, and how many a turn has at most."""

_TURN_S = 0.006
"""A turn takes at least so long: an engine of less than 2 ms has more runs."""

_SLOW_S = 0.1
"""From this time of a run on, an engine runs once in its turn."""

_MUCH_SLOWER = 4.0
"""An engine that takes so many times as long as the fastest needs no warm caches to be told."""

_FREE_SHARE = 0.15
"""Of the machine's memory, and of the step's limit, that stays free when a group is open."""


@dataclass
class Timed:
    """An open engine that takes turns. samples: the time of each run in ms. seconds: about that of
    one run.

    The first run of a turn is not timed, since another engine has used the caches before.
    """

    session: Session
    images: Floats
    samples: list[float] = field(default_factory=list)
    seconds: float = 0.0
    runs: int = _RUNS
    untimed: bool = True

    def __call__(self) -> float:
        """Take a turn, and return the median time of a run in ms."""
        if self.untimed:
            self.session.run(self.images)
        own = [self._timed() for _ in range(self.runs)]
        self.samples += own
        return float(np.median(own))

    def warm_up(self) -> None:
        """Run a few times, and see how long a run takes."""
        self._timed()
        self.seconds = max(min(self._timed() for _ in range(2)) / 1e3, 1e-6)
        self.fit(self.seconds)

    def fit(self, fastest_s: float) -> None:
        """Choose the runs of a turn, so that a slow engine takes no more of the time than others.

        fastest_s: the time of a run of the fastest engine that it is compared with.
        """
        turn_s = max(_TURN_S, _RUNS * fastest_s)
        fitting = math.ceil(turn_s / self.seconds - 1e-9)
        self.runs = 1 if self.seconds >= _SLOW_S else min(max(1, fitting), _MOST_RUNS)
        self.untimed = self.seconds < min(_SLOW_S, _MUCH_SLOWER * fastest_s)

    def _timed(self) -> float:
        before = time.perf_counter_ns()
        self.session.run(self.images)
        return (time.perf_counter_ns() - before) / 1e6


def run(inputs: CompareInputs, context: Context) -> Mapping[str, Any]:
    """Return rank, time over the best's and latency of each engine by its id.

    Leaves `blocks.npy`, float64 [blocks, engines]: the median time of each engine in each block in
    ms, NaN where it did not run.

    Raises:
        StepFailed: an engine cannot be opened.
        TransientFailure: there is no memory for two engines at once.
    """
    rules = Rules(inputs.margin, inputs.error, inputs.seconds, seed=_seed(inputs))
    samples: list[list[float]] = [[] for _ in inputs.entrants]
    gpu = inputs.target.accelerator is not None
    with watched_machine(gpu) as machine, no_collection():
        groups = [*_groups(inputs, context, rules, samples)]
    times, ended = np.concatenate([one for one, _ in groups]), [how for _, how in groups]
    np.save(context.folder / "blocks.npy", times)
    return {
        "measured_at": now(),
        "entrants": dict(_figures(inputs, times, rules, samples)),
        "blocks": len(times),
        "groups": len(groups),
        "ended": next((one for one in ("budget", "tied") if one in ended), "order"),
        "order_seed": rules.seed,
        "margin": rules.margin,
        "threads": inputs.threads,
        **machine,
    }


def _seed(inputs: CompareInputs) -> int:
    """A seed of the order that the same engines always have."""
    ids = "\n".join(one.id for one in inputs.entrants)
    return int(hashlib.sha256(ids.encode()).hexdigest()[:8], 16)


def _groups(
    inputs: CompareInputs, context: Context, rules: Rules, samples: list[list[float]]
) -> Iterator[tuple[Times, str]]:
    """Run the rounds of as many engines at once as there is memory for; the first is in all."""
    count = len(inputs.entrants)
    waiting = [*range(1, count)]
    with _open(inputs, 0, context) as pivot:
        while waiting:
            with ExitStack() as stack:
                group = {0: pivot, **_opened_group(inputs, waiting, context, stack)}
                fastest = min(engine.seconds for engine in group.values())
                for engine in group.values():
                    engine.fit(fastest)
                share = rules.max_seconds * (len(group) - 1) / (count - 1)
                rounds = run_rounds([*group.values()], replace(rules, max_seconds=share))
                for index, engine in group.items():
                    samples[index] += engine.samples
                    engine.samples.clear()
            times = np.full((len(rounds.times), count), np.nan)
            times[:, [*group]] = rounds.times
            waiting = [one for one in waiting if one not in group]
            log.info("%d engines, %d blocks: %s", len(group), len(times), rounds.ended)
            yield times, rounds.ended


def _opened_group(
    inputs: CompareInputs, waiting: Sequence[int], context: Context, stack: ExitStack
) -> dict[int, Timed]:
    """Open engines until there is no memory for another one like the largest so far.

    Raises:
        TransientFailure: there is none for the first.
    """
    group: dict[int, Timed] = {}
    largest = 0.0
    for index in waiting:
        room = _room()
        if group and room < largest:
            break
        try:
            group[index] = stack.enter_context(_open(inputs, index, context))
        except TransientFailure as error:
            if not group or failure_kind(error) is not FailureKind.OOM:
                raise
            break
        largest = max(largest, room - _room())
    return group


def _room() -> float:
    """How many bytes of host memory more engines may take: of the machine, and of this process
    where the matrix limits it."""
    memory = psutil.virtual_memory()
    free: float = memory.available - _FREE_SHARE * memory.total
    most, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY:
        return free
    used: int = psutil.Process().memory_info().data
    return min(free, (1 - _FREE_SHARE) * most - used)


@contextmanager
def _open(inputs: CompareInputs, index: int, context: Context) -> Iterator[Timed]:
    """Open an engine and warm it up."""
    entrant = inputs.entrants[index]
    shape = entrant.engine.options.shape.opt
    images = fitted(Prepared(context.artifact(entrant.prepared)), shape)
    with opened(entrant.engine, context, inputs.threads) as session:
        timed = Timed(session, images)
        timed.warm_up()
        yield timed


def _figures(
    inputs: CompareInputs, times: Times, rules: Rules, samples: Sequence[Sequence[float]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    ratios = Ratios(times, rules.error_of_look)
    places = {one.id: index for index, one in enumerate(inputs.entrants)}
    for index, one in enumerate(ranked(times, rules)):
        entrant = inputs.entrants[index]
        baseline = places.get(entrant.baseline or "")
        speedup = None if baseline is None else ratios.of(baseline, index)
        yield (
            entrant.id,
            {
                "cell": entrant.name,
                "rank": one.rank,
                "rounds": one.blocks,
                **_interval("vs_best", one.vs_best),
                **_interval("speedup_vs_fp32", speedup),
                **_latency(entrant, samples[index]),
            },
        )


def _interval(name: str, ratio: Ratio | None) -> dict[str, float | None]:
    """A ratio as figures; its ends are None where too few blocks give none."""
    if ratio is None:
        return {}
    low, high = (one if 0 < one < float("inf") else None for one in (ratio.low, ratio.high))
    return {name: ratio.value, f"{name}_low": low, f"{name}_high": high}


def _latency(entrant: Entrant, samples: Sequence[float]) -> dict[str, Any]:
    batch = entrant.engine.options.shape.opt.n
    figures = summarise(np.array(samples, np.float64), np.empty(0), batch)
    return {name: figures[name] for name in LATENCY if figures.get(name) is not None}

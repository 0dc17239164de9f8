"""compare: measured engines in turn on one node, so that they are ranked by paired differences."""

from __future__ import annotations

import hashlib
import logging
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import psutil

from farm.errors import TransientFailure
from farm.failures import FailureKind, failure_kind
from farm.measuring.machine import now, watched_machine
from farm.measuring.sampling import no_collection, summarise
from farm.ranking.intervals import Ratio, Ratios
from farm.ranking.ranks import ranked
from farm.ranking.rounds import Rules, run_rounds
from farm.stages.hosts import Hosts
from farm.stages.turns import open_here
from farm.store.figures import LATENCY

if TYPE_CHECKING:
    from farm.ranking.intervals import Times
    from farm.specs import CompareInputs, Entrant
    from farm.stages import Context

log = logging.getLogger(__name__)

_FREE_SHARE = 0.15
"""Of the machine's memory, and of the step's limit, that stays free when a group is open."""


class Turns(Protocol):
    """An open engine that takes turns, of this process or of another: see `turns.Timed`."""

    seconds: float
    samples: list[float]

    def __call__(self) -> float: ...

    def fit(self, fastest_s: float) -> None: ...


def run(inputs: CompareInputs, context: Context) -> Mapping[str, Any]:
    """Return rank, time over the best's and latency of each engine by its id.

    Leaves `blocks.npy`, float64 [blocks, engines]: the median time of each engine in each block in
    ms, NaN where it did not run.

    Raises:
        StepFailed: an engine cannot be opened.
        TransientFailure: there is no memory for two engines at once, or an environment cannot be
            made.
    """
    rules = Rules(inputs.margin, inputs.error, inputs.seconds, seed=_seed(inputs))
    samples: list[list[float]] = [[] for _ in inputs.entrants]
    gpu = inputs.target.accelerator is not None
    with (
        watched_machine(gpu) as machine,
        no_collection(),
        Hosts(context, inputs.threads) as hosts,
    ):
        groups = [*_groups(inputs, _Opening(inputs, context, hosts), rules, samples)]
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
    inputs: CompareInputs, opening: _Opening, rules: Rules, samples: list[list[float]]
) -> Iterator[tuple[Times, str]]:
    """Run the rounds of as many engines at once as there is memory for; the first is in all."""
    count = len(inputs.entrants)
    waiting = [*range(1, count)]
    with opening.engine(0) as pivot:
        while waiting:
            with ExitStack() as stack:
                group = {0: pivot, **_opened_group(opening, waiting, stack)}
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


def _opened_group(opening: _Opening, waiting: Sequence[int], stack: ExitStack) -> dict[int, Turns]:
    """Open engines until there is no memory for another one like the largest so far.

    Raises:
        TransientFailure: there is none for the first.
    """
    group: dict[int, Turns] = {}
    largest = 0.0
    for index in waiting:
        room = _room()
        if group and room < largest:
            break
        try:
            group[index] = stack.enter_context(opening.engine(index))
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
    return min(free, (1 - _FREE_SHARE) * most - sum(_used()))


def _used() -> Iterator[int]:
    """The bytes of this process and of those in other environments."""
    here = psutil.Process()
    for one in (here, *here.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            yield one.memory_info().data


@dataclass(frozen=True)
class _Opening:
    """Opens the engines of a comparison, each in its environment."""

    inputs: CompareInputs
    context: Context
    hosts: Hosts

    def engine(self, index: int) -> AbstractContextManager[Turns]:
        """Open an engine and warm it up."""
        entrant = self.inputs.entrants[index]
        if entrant.environment is not None:
            return self.hosts.open(entrant)
        return open_here(entrant, self.context, self.inputs.threads)


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

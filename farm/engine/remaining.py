"""How long the rest of a sweep will take, from what is known of its steps and of those before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.catalog import runtime_of
from farm.engine.estimates import Estimates, Kind, default_seconds
from farm.specs import CompareInputs, MeasureInputs

if TYPE_CHECKING:
    from farm.config.measuring import CompareSpec
    from farm.plan.steps import Plan, Step

_SAMPLED = 0.4
"""What a `measure` takes beside its settings, of an evaluation: its least number of samples."""

_OPENED = 0.5
"""What it takes to open an engine and run it first, of a `verify`."""

_LOADED = 0.5
"""What a new process takes until PyTorch has a model, of a `check`, which also runs the model and
finds fewer of the files in memory."""

_PRIOR_S = 10.0
"""So many seconds of work must have been seen before the pace of this sweep counts as much as that
of the estimates."""

_RENEWED_S = 0.5
"""An estimate holds so many seconds."""


@dataclass(frozen=True)
class Comparison:
    """A comparison that will be planned once a model's cells have been measured.

    measures: the keys of their steps. seconds: the most for each engine.
    """

    kind: Kind
    measures: tuple[str, ...]
    seconds: float


def comparisons_of(plan: Plan, how: CompareSpec | None) -> list[Comparison]:
    """Return the comparisons that will follow from a plan, at most one of a model and target."""
    if how is None:
        return []
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for one in plan.cells:
        if key := one.steps.get("measure"):
            groups.setdefault((one.cell.model, one.cell.target), {})[key] = None
    return [
        Comparison(Kind("compare", None, model), tuple(keys), how.seconds)
        for (model, _), keys in groups.items()
        if len(keys) > 1
    ]


@dataclass(frozen=True)
class _Group:
    """Steps that are expected to take equally long. least_s: by their settings. engines: of one."""

    kind: Kind
    alone: bool
    least_s: float
    default_s: float
    engines: int


class TimeLeft:
    """The remaining time of steps, as a watcher of them.

    Steps that must be alone run one after another, all others on `slots` at a time. How much faster
    or slower the sweep really is (more nodes, a busy machine) is seen from its own pace.

    steps: those to be done. estimates: which know the models of the plan (`add_plan`).
    comparisons: that will be planned once the steps are done.
    clock: in seconds.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        estimates: Estimates,
        slots: int,
        comparisons: Sequence[Comparison] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimates, self._slots, self._clock = estimates, slots, clock
        self._steps = {step.key: step for step in steps}
        self._groups = {key: self._group(step) for key, step in self._steps.items()}
        self._left = Counter(self._groups.values())
        self._later = [
            one for one in comparisons if not self._groups.keys().isdisjoint(one.measures)
        ]
        self._running: dict[str, float] = {}
        self._began: float | None = None
        self._done = {True: 0.0, False: 0.0}  # by whether it must be alone, in seconds
        self._known: tuple[float, float] | None = None

    def started(self, step: Step) -> None:
        """Note that a step runs."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        self._running[step.key] = now

    def ended(self, step: Step, seconds: float | None) -> None:
        """Note how long a step has run; None for one that was not run."""
        self._running.pop(step.key, None)
        if (group := self._groups.pop(step.key, None)) is None:
            return
        self._left[group] -= 1
        if seconds is not None:
            self._done[group.alone] += self._share(group, seconds)

    def seconds(self) -> float:
        """Return the remaining time in seconds, computed anew at most twice a second."""
        now = self._clock()
        if self._known is None or now >= self._known[0] + _RENEWED_S:
            self._known = now, self._seconds(now)
        return max(0.0, self._known[1] - (now - self._known[0]))

    def _seconds(self, now: float) -> float:
        found = {group: self._expected(group) for group, count in self._left.items() if count}
        work = {True: sum(map(self._compared, self._later)), False: 0.0}
        for group, seconds in found.items():
            work[group.alone] += self._share(group, self._left[group] * seconds)
        under_way = {True: 0.0, False: 0.0}
        for key, began in list(self._running.items()):  # another thread adds to it
            if own := self._groups.get(key):
                under_way[own.alone] += self._share(own, min(now - began, found[own]))
        paces = self._paces(now, {alone: self._done[alone] + under_way[alone] for alone in work})
        return sum((work[alone] - under_way[alone]) * paces[alone] for alone in work)

    def _paces(self, now: float, expected: Mapping[bool, float]) -> dict[bool, float]:
        """The time that has passed over that which the work so far was expected to take, by whether
        that must be alone: on one machine such work takes its own time, and all others the rest."""
        passed = now - self._began if self._began is not None else 0.0
        if expected[True] <= passed:
            rest = passed - expected[True]
            return {True: 1.0, False: (rest + _PRIOR_S) / (expected[False] + _PRIOR_S)}
        both = (passed + _PRIOR_S) / (sum(expected.values()) + _PRIOR_S)
        return {True: both, False: both}

    def _share(self, group: _Group, seconds: float) -> float:
        return seconds if group.alone else seconds / self._slots

    def _group(self, step: Step) -> _Group:
        entrants = step.inputs.entrants if isinstance(step.inputs, CompareInputs) else (None,)
        return _Group(
            self._estimates.kind(step),
            step.needs.exclusive,
            least_seconds(step),
            default_seconds(step),
            len(entrants),
        )

    def _expected(self, group: _Group) -> float:
        """How long a step of the group is expected to run, in seconds."""
        kind, of = group.kind, self._estimates.of
        if (own := of(kind.names[0])) is not None:
            return max(own, group.least_s)
        if kind.stage == "measure":
            sampled = _SAMPLED * self._evaluated(kind)
            return group.least_s + self._imported(kind) + self._opened(kind) + sampled
        if kind.stage == "compare":
            return group.least_s + group.engines * self._opened(kind)
        if kind.stage == "evaluate":
            return self._evaluated(kind, group.default_s)
        found = of(kind.any_runtime, *kind.names)
        return max(group.default_s if found is None else found, group.least_s)

    def _evaluated(self, kind: Kind, default: float = 0.0) -> float:
        """How long the engine of a step is expected to be evaluated: PyTorch's own answers on the
        same images, which are found first, take about as long."""
        own = Kind("evaluate", kind.runtime, kind.model)
        reference = Kind("reference", None, kind.model)
        found = self._estimates.of(own.names[0], reference.names[0], own.any_runtime, *own.names)
        return default if found is None else found

    def _imported(self, kind: Kind) -> float:
        """What a new process takes until PyTorch has the model, which a `check` has done, too."""
        loads = kind.runtime is not None and not runtime_of(kind.runtime).exported
        check = Kind("check", None, kind.model)
        return _LOADED * (self._estimates.of(*check.names) or 0.0) if loads else 0.0

    def _opened(self, kind: Kind) -> float:
        own, any_runtime = Kind("verify", kind.runtime, kind.model), f"verify/*/{kind.model}"
        return _OPENED * (self._estimates.of(own.names[0], any_runtime, *own.names) or 0.0)

    def _compared(self, one: Comparison) -> float:
        """How long a comparison is expected to run that is not planned yet."""
        if (known := self._estimates.of(*one.kind.names[:1])) is not None:
            return known
        return len(one.measures) * (one.seconds + self._opened(one.kind))


def least_seconds(step: Step) -> float:
    """Return how long a step runs at least by its settings; 0.0 where they say nothing."""
    inputs = step.inputs
    if isinstance(inputs, CompareInputs):
        return inputs.seconds
    if not isinstance(inputs, MeasureInputs):
        return 0.0
    throughput = inputs.throughput_seconds
    latency = inputs.warmup_seconds + inputs.seconds
    return latency + (inputs.seconds if throughput is None else throughput) + inputs.server_seconds


def whole_seconds(
    plan: Plan, todo: Sequence[Step], estimates: Estimates, slots: int, how: CompareSpec | None
) -> float:
    """Return how long the steps of a plan will take that are to be done, and its comparisons."""
    estimates.add_plan(plan.steps)
    return TimeLeft(todo, estimates, slots, comparisons_of(plan, how)).seconds()

"""The steps that compare engines, which are planned once those have been measured."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from farm import catalog, specs
from farm.plan.content.closure import code_for
from farm.plan.content.packages import toolchain
from farm.plan.keys import key_maker
from farm.plan.steps import Plan, PlannedCell, Step

if TYPE_CHECKING:
    from farm.config.measuring import CompareSpec

STAGE = "compare"


@dataclass(frozen=True)
class Candidate:
    """A measured cell that may be worth shipping. fp32: the same cell in fp32, if there is one."""

    cell: PlannedCell
    fp32: PlannedCell | None = None

    @property
    def id(self) -> str:
        """What tells its engine from others: cells of equal steps are one entrant."""
        return self.cell.steps["measure"]


def with_comparisons(plan: Plan, groups: Iterable[Sequence[Candidate]], how: CompareSpec) -> Plan:
    """Return the plan with a step `compare` for each group, which its cells share.

    groups: candidates of one model and target, the fastest first. Those whose engines run in a
    container image get steps of their own, since Ray starts a step in its container. There is
    nothing to compare where fewer than two engines are left.
    """
    steps, compared = dict(plan.steps), dict[specs.Cell, str]()
    for group in groups:
        for own in _by_image(plan, group):
            if len({one.id for one in own}) < 2:
                continue
            step = _step(plan, own, how)
            steps[step.key] = step
            compared |= {one.cell.cell: step.key for one in own}
    cells = (_with(cell, compared.get(cell.cell)) for cell in plan.cells)
    return replace(plan, cells=tuple(cells), steps=steps)


def _with(cell: PlannedCell, key: str | None) -> PlannedCell:
    return replace(cell, steps={**cell.steps, STAGE: key}) if key else cell


def _by_image(plan: Plan, group: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    def image(one: Candidate) -> str:
        environment = plan.steps[one.id].environment
        return environment.image if environment else ""

    for _, own in groupby(sorted(group, key=image), image):
        yield list(own)


def _step(plan: Plan, group: Sequence[Candidate], how: CompareSpec) -> Step:
    measures = {one.id: plan.steps[one.id] for one in group}
    steps, (one, *_) = measures.values(), group
    first = next(iter(steps))
    environment = _shared(steps)
    values = _inputs(measures, group, how, environment)
    # An environment of its own has other versions, which are in its digest.
    tools = () if environment else toolchain(catalog.OWN_STAGES[STAGE].packages)
    own = (tool for one in steps if one.environment == environment for tool in one.toolchain)
    tools, code = tuple(sorted({*tools, *own})), _code(steps)
    return Step(
        STAGE, key_maker(STAGE, code, tools)(values), one.cell.cell.model, values, tools,
        tuple(dict.fromkeys(parent for one in steps for parent in one.parents)),
        first.needs, code, environment,
    )  # fmt: skip


def _shared(steps: Collection[Step]) -> specs.Environment | None:
    """The environment of all these steps; None, the farm's own, where they have several."""
    found = {one.environment.digest if one.environment else "": one.environment for one in steps}
    return next(iter(found.values())) if len(found) == 1 else None


def _inputs(
    measures: dict[str, Step],
    group: Sequence[Candidate],
    how: CompareSpec,
    shared: specs.Environment | None,
) -> specs.CompareInputs:
    entrants: dict[str, specs.Entrant] = {}
    for one in group:
        environment = None if shared else measures[one.id].environment
        own, fp32 = _measured(measures[one.id]), one.fp32.steps["measure"] if one.fp32 else None
        name, baseline = one.cell.cell.id, fp32 if fp32 in measures else None
        entrant = specs.Entrant(one.id, own.engine, own.prepared, baseline, name, environment)
        entrants.setdefault(one.id, entrant)
    first, seconds = _measured(next(iter(measures.values()))), how.seconds * len(entrants)
    return specs.CompareInputs(
        tuple(entrants.values()), first.target, first.threads, seconds, how.margin, how.error
    )


def _measured(step: Step) -> specs.MeasureInputs:
    assert isinstance(step.inputs, specs.MeasureInputs)
    return step.inputs


def _code(steps: Iterable[Step]) -> str:
    """The digest of what runs: the code of the stage and that of each measured engine."""
    own = sorted({code_for(STAGE), *(step.code for step in steps)})
    return hashlib.sha256("\n".join(own).encode()).hexdigest()

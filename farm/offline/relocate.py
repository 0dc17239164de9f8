"""Plan the steps of a pack on this machine, as a sweep here would.

A step's key covers the versions of packages, the processor and the artifacts that it reads. Where
those differ on this machine, so does the key; on the machine that packed the sweep none does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from farm.errors import InputError
from farm.offline.contents import Pack, PackedStep
from farm.plan import Plan, PlannedCell, Step
from farm.plan.content.closure import code_of
from farm.plan.content.packages import toolchain
from farm.plan.keys import step_key
from farm.plan.machines import placement
from farm.specs import CachePath, Gpu, MeasureInputs, Ref, Target

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackHost:
    """The machine that runs the steps: its processor, its cores and its GPUs."""

    processor: str
    cores: int
    gpus: Sequence[Gpu] = ()

    def target(self, wanted: Target, any_processor: bool) -> Target | str:
        """Return the target with this machine's processor or driver, or why it is another machine.

        any_processor: the matrix names no processor.
        """
        if not wanted.accelerator:
            if any_processor or wanted.device == self.processor:
                return replace(wanted, device=self.processor)
            return f"{wanted.name} is {wanted.device}, this machine is {self.processor}"
        reasons = []
        for gpu in self.gpus:
            here = replace(wanted, driver=gpu.branch)
            reason = placement.gpu_unsupported(here, gpu)
            if reason is None:
                return here
            reasons.append(f"this machine {reason}")
        return (
            reasons[0] if reasons else f"{wanted.name} is {wanted.device}, this machine has no GPU"
        )


def this_machine() -> PackHost:
    """Describe the machine that this process runs on."""
    return PackHost(placement.cpu_model(), placement.cores(), placement.gpus())


@dataclass(frozen=True)
class Relocated:
    """The cells that can run on this machine, and by reason the number of those that cannot."""

    plan: Plan
    excluded: Mapping[str, int]


def relocate(pack: Pack, cells: Sequence[PlannedCell], machine: PackHost, cache: str) -> Relocated:
    """Plan these cells of the pack on this machine.

    cache: the folder of the timing caches, which make builds faster.

    Raises:
        InputError: no cell can run on this machine.
    """
    targets = _targets(pack, machine)
    unsupported, names = _unsupported(pack, targets), _names_here(targets)
    kept, excluded = list[PlannedCell](), dict[str, int]()
    for cell in cells:
        why = next((unsupported[key] for key in cell.steps.values() if key in unsupported), None)
        if (
            why is None and cell.cell.target not in names
        ):  # no step shows it: it failed before, or is refused
            why = f"{cell.cell.target} is not this machine"
        if why is None:
            kept.append(cell)
        else:
            excluded[why] = excluded.get(why, 0) + 1
    if not kept:
        raise InputError("no cell can run on this machine:\n  " + "\n  ".join(excluded))
    wanted = {key for cell in kept for key in cell.steps.values()}
    steps = [step for step in pack.steps if step.key in wanted]
    here = _Steps(targets, pack.threads or machine.cores, cache)
    made = {step.key: step for step in map(here.step, steps)}
    moved = tuple(
        replace(cell, steps={stage: here.keys.get(key, key) for stage, key in cell.steps.items()})
        for cell in _breadth_first(kept)
    )
    return Relocated(Plan(pack.name, moved, made, (), ()), excluded)


def _targets(pack: Pack, machine: PackHost) -> dict[Target, Target | str]:
    """Each target of the pack as it is here, or why this is another machine."""
    wanted = dict.fromkeys(step.inputs.target for step in pack.steps)
    return {one: machine.target(one, one.name in pack.any_processor) for one in wanted}


def _names_here(targets: Mapping[Target, Target | str]) -> set[str]:
    return {one.name for one in targets.values() if isinstance(one, Target)}


def _unsupported(pack: Pack, targets: Mapping[Target, Target | str]) -> dict[str, str]:
    """Why steps cannot run here, by key."""
    reasons = {}
    for step in pack.steps:
        target = targets[step.inputs.target]
        absent = [name for name, version in toolchain(step.packages) if version == "absent"]
        if isinstance(target, str):
            reasons[step.key] = target
        elif absent:
            reasons[step.key] = f"{', '.join(absent)} not installed for this Python"
    return reasons


class _Steps:
    """Makes the steps for this machine, parents first. keys: the new key of each old one."""

    def __init__(self, targets: Mapping[Target, Target | str], threads: int, cache: str) -> None:
        self._targets, self._threads, self._cache = targets, threads, cache
        self.keys: dict[str, str] = {}

    def step(self, packed: PackedStep) -> Step:
        """Return the step with the inputs, the versions and the key that it has here."""
        inputs = self._moved(packed.inputs)
        code, tools = code_of(packed.stage, inputs), toolchain(packed.packages)
        key = step_key(packed.stage, code, inputs, tools)
        if key != packed.key:
            log.debug(
                f"{packed.stage} {packed.label}: key {key[:12]} here, {packed.key[:12]} packed"
            )
        self.keys[packed.key] = key
        parents = tuple(self.keys[parent] for parent in packed.parents)
        return Step(packed.stage, key, packed.label, inputs, tools, parents, packed.needs, code)

    def _moved(self, value: Any) -> Any:
        """The same inputs with the targets, keys, folders and threads of this machine."""
        if isinstance(value, Ref):
            return replace(value, key=self.keys.get(value.key, value.key))
        if isinstance(value, Target):
            return self._targets[value]
        if isinstance(value, CachePath):
            return CachePath(self._cache)
        if isinstance(value, tuple):
            return tuple(map(self._moved, value))
        if not is_dataclass(value) or isinstance(value, type):
            return value
        moved: Any = {one.name: self._moved(getattr(value, one.name)) for one in fields(value)}
        if isinstance(value, MeasureInputs):
            moved["threads"] = self._threads
        return replace(value, **moved)


def _breadth_first(cells: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Order the cells: first each model once, then what differs from that in one axis, in two, ...

    So a run that ends early has results of every model.
    """
    axes = ("workspace_bytes", "shape", "precision", "runtime", "opset", "postprocess", "model")
    ranks = {axis: _ranks([getattr(one.cell, axis) for one in cells]) for axis in axes}

    def order(one: PlannedCell) -> tuple[int, list[int]]:
        order = [ranks[axis][getattr(one.cell, axis)] for axis in axes]
        return sum(rank > 0 for rank in order[:4]), order

    return sorted(cells, key=order)


def _ranks(values: Sequence[object]) -> dict[object, int]:
    return {value: rank for rank, value in enumerate(dict.fromkeys(values))}

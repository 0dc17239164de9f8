"""A step, what it needs of a node, and the plan: plain values that anyone can print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farm.errors import InputError
from farm.inputs import Ref, StageInputs
from farm.matrix import Cell

STAGES = (
    "check",
    "prepare",
    "reference",
    "export",
    "convert",
    "build",
    "verify",
    "evaluate",
    "measure",
)
"""In the order of the work."""

HEAVY_STAGES = STAGES[1:]


@dataclass(frozen=True)
class Needs:
    """What a step needs of the node it runs on.

    exclusive: nothing else of the sweep runs on that node meanwhile.
    accelerator: the kind of GPU, as Ray names it; None for a CPU.
    optional: where no node has it, what comes before is worth doing all the same.
    apart: a process of its own, since code of the user's may end it, hang it or change it.
    """

    cpus: int = 1
    exclusive: bool = False
    accelerator: str | None = None
    optional: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Step:
    """One stage with its frozen inputs; a node of the plan's graph, named by its key.

    code: the digest of the farm's own code that runs it; see `plan.closure`.
    """

    stage: str
    key: str
    label: str
    inputs: StageInputs
    toolchain: tuple[tuple[str, str], ...]
    parents: tuple[str, ...]
    needs: Needs
    code: str

    @property
    def ref(self) -> Ref:
        return Ref(self.stage, self.key)


@dataclass(frozen=True)
class PlannedCell:
    """A cell and the step that each of its stages is; `refused` says why it has none."""

    cell: Cell
    steps: Mapping[str, str]
    refused: str | None = None


@dataclass(frozen=True)
class Plan:
    """Cells and the steps they share, parents first. `missing` lists the files not there.

    Where a model has not been checked yet, or not since something changed that it is made of
    (`unchecked`), the keys of its steps are provisional: which models share their prepared images
    is known only from their configs. `unfollowed`: by model, what its code did whose outcome may
    change unseen.
    """

    name: str
    cells: tuple[PlannedCell, ...]
    steps: Mapping[str, Step]
    missing: tuple[InputError, ...]
    unchecked: tuple[str, ...]
    unfollowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of_stage(self, stage: str) -> list[Step]:
        return [step for step in self.steps.values() if step.stage == stage]

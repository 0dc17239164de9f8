"""A plan: its cells, and its steps of one stage each, with frozen inputs, key and needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm import catalog
from farm.parts.registry import Names
from farm.specs import Cell, Environment, Ref, StageInputs

if TYPE_CHECKING:
    from farm.errors import InputError

STAGES = Names(catalog.OWN_STAGES, catalog.EXTRA_STAGES)
"""In the order of the work; then those of other packages, which run for each engine."""


@dataclass(frozen=True)
class Needs:
    """What a step needs of the node it runs on.

    exclusive: nothing else of the sweep runs on that node meanwhile.
    accelerator: the kind of GPU, as Ray names it; None for a CPU.
    shares_gpu: others that do so, too, may run on the same GPU where its memory is enough.
    optional: the steps before it are run even where no node has that accelerator.
    own_process: it runs in a new process that no other step has, since the user's code may end,
    block or change it.
    """

    cpus: int = 1
    exclusive: bool = False
    accelerator: str | None = None
    shares_gpu: bool = False
    optional: bool = False
    own_process: bool = False


@dataclass(frozen=True)
class Step:
    """One stage with its frozen inputs; a node of the plan's graph, named by its key.

    code: the digest of the farm's own code that runs it; see `plan.content.closure`.
    environment: where its process runs; None for the environment that the farm itself runs in.
    """

    stage: str
    key: str
    label: str
    inputs: StageInputs
    toolchain: tuple[tuple[str, str], ...]
    parents: tuple[str, ...]
    needs: Needs
    code: str
    environment: Environment | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.stage, self.key)


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the key of the step of each stage; `refused` says why it cannot be run.

    refused_stage: the stage that it is refused for, where that is not the export.
    """

    cell: Cell
    steps: Mapping[str, str]
    refused: str | None = None
    refused_stage: str | None = None


@dataclass(frozen=True)
class Plan:
    """Cells and the steps they share, parents first. `missing` lists the files not there.

    Where a model has not been checked yet, or not since something changed that it is made of
    (`unchecked`), the keys of its steps are provisional: which models share their prepared images
    is known only from their configs. `unfollowed`: by model, what its code did whose outcome may
    change unseen. `unmade`: runtimes whose environments are not made yet, so that the keys of
    their steps are provisional, too.
    """

    name: str
    cells: tuple[PlannedCell, ...]
    steps: Mapping[str, Step]
    missing: tuple[InputError, ...]
    unchecked: tuple[str, ...]
    unfollowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmade: tuple[str, ...] = ()

    def of_stage(self, stage: str) -> list[Step]:
        return [step for step in self.steps.values() if step.stage == stage]

    def with_ancestors(self, keys: Iterable[str]) -> dict[str, Step]:
        """Return steps and all that come before them, which may be shared with other cells."""
        wanted, pending = set[str](), list(keys)
        while pending:
            key = pending.pop()
            if key not in wanted:
                wanted.add(key)
                pending += self.steps[key].parents
        return {key: step for key, step in self.steps.items() if key in wanted}

"""`farm pack`: write an archive from which another machine can run the rest of a sweep.

The stages before the build are run here, as in a sweep. Their artifacts are packed with the frozen
inputs of the steps that remain.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from farm.cli.progress import Progress
from farm.cli.results import results_of
from farm.config.loader import Matrix, load_matrix
from farm.engine.checks import checked_plan
from farm.engine.estimates import Estimates
from farm.engine.executors import Choices, starter
from farm.engine.known import steps_to_do
from farm.engine.remaining import TimeLeft
from farm.engine.scheduler import Outcome, run_steps
from farm.engine.status import StepStatus, failure_reasons
from farm.engine.workers.limits import limits_of
from farm.errors import InputError, InputErrors
from farm.offline import contents
from farm.offline.archive import writing
from farm.offline.contents import BEFORE, INPUTS, Pack, PackedFile, PackedStep
from farm.offline.options import select_cells
from farm.offline.records import small_files
from farm.plan import Plan, PlannedCell, Step, make_plan
from farm.plan.machines.placement import cores
from farm.specs import Ref, refs_of
from farm.store import Store
from farm.store.upkeep.repair import discard_altered

log = logging.getLogger(__name__)


def pack(options: argparse.Namespace) -> int:
    """Write a pack. Returns 0, or 1 if cells failed before the build.

    Raises:
        InputError: the matrix is wrong, the file cannot be written, or no step remains.
    """
    matrix = select(load_matrix(options.matrix, options.overrides), options)
    _require_no_libraries(matrix)
    path = options.output or Path(f"{matrix.name}.pack.tar.gz")
    _require_writable(path)
    store = results_of(options.results, matrix).store()
    choices = Choices(
        executor=options.executor, address=options.address, retry_failed=options.retry_failed,
        wait_for_nodes_s=options.wait_for_nodes,
    )  # fmt: skip
    plan, outcomes = run_before(matrix, store, choices)
    found = describe(matrix, plan, outcomes)
    if not found.steps:
        raise InputError(f"nothing remains to be run elsewhere{_why(found)}", options.matrix)
    with store.held(_known(found)):
        members = dict(_members(found, store))
        found = replace(found, files={name: _file(source) for name, source in members.items()})
        parts = writing.write_pack(
            path, [(contents.NAME, contents.as_json(found)), *members.items()], options.part_size
        )
    return _report(found, plan, parts)


def select(matrix: Matrix, options: argparse.Namespace) -> Matrix:
    """Return the matrix with the selected cells and their models alone, so that the files of other
    models may be absent.

    Cells whose runtime has an environment of its own are left out: it cannot be made without a
    network.

    Raises:
        InputError: no cell has the values of the options, or none is left.
    """
    selected = select_cells(matrix.cells, options)
    cells = tuple(cell for cell in selected if "@" not in cell.runtime)
    if not cells:
        raise InputError(
            f"every cell runs in an environment of its own, such as {selected[0].runtime}, which a "
            "machine without network cannot make",
            str(matrix.document.path),
        )
    if out := len(selected) - len(cells):
        log.info(f"{out} cells are not packed: they run in environments of their own.")
    names = {cell.model for cell in cells}
    models = {name: model for name, model in matrix.spec.models.items() if name in names}
    return replace(matrix, spec=matrix.spec.model_copy(update={"models": models}), cells=cells)


def _require_no_libraries(matrix: Matrix) -> None:
    """Check that no option names libraries, which a pack does not contain. Raises InputError."""
    for runtime in dict.fromkeys(cell.runtime for cell in matrix.cells):
        values = matrix.spec.options_of(runtime)
        if named := contents.libraries(values):
            raise InputError(
                f"{named[0]!r}: a pack does not contain libraries; leave them out with "
                f"runtime_options.{runtime}.{named[0]}=null",
                matrix.document.where(("runtime_options", runtime, named[0])),
            )


def _require_writable(path: Path) -> None:
    """Check now, rather than after the work, that a file can be written. Raises InputError."""
    if path.is_dir():
        raise InputError("a folder; expected the name of a new file", str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror}", str(path.parent)) from None


def run_before(
    matrix: Matrix, store: Store, choices: Choices
) -> tuple[Plan, Mapping[str, Outcome]]:
    """Run every step before the build. Returns the plan and the outcomes of these steps.

    Raises:
        InputError: files of the matrix are missing or wrong.
    """
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    with ExitStack() as stack:
        limits = limits_of(matrix.spec.limits)
        start = starter(store, choices, limits, stack)
        plan = checked_plan(matrix, store, start, choices.retry_failed, BEFORE)
        steps = {key: step for key, step in plan.steps.items() if step.stage in BEFORE}
        store.learn(step.ref for step in steps.values())
        discard_altered(store, (step.ref for step in steps.values()))
        estimates, retry = Estimates(), choices.retry_failed
        remaining = steps_to_do(steps, store, limits, retry)
        estimates.add_plan(plan.steps)
        with Progress(remaining, TimeLeft(remaining, estimates, cores())) as progress:
            outcomes = run_steps(steps, store, start, progress, retry, limits, estimates)
    return plan, outcomes


@dataclass(frozen=True)
class _Packing:
    """The plan of a matrix, and the outcomes of the steps before the build."""

    plan: Plan
    outcomes: Mapping[str, Outcome]

    def cell(self, cell: PlannedCell) -> PlannedCell:
        """Return the cell, without the remaining steps if one before the build failed."""
        steps = {stage: key for stage, key in cell.steps.items() if stage in BEFORE}
        return cell if self._ready(steps) else replace(cell, steps=steps)

    def _ready(self, steps: Mapping[str, str]) -> bool:
        return all(self.outcomes[key].status is StepStatus.DONE for key in steps.values())

    def reasons(self, cells: tuple[PlannedCell, ...]) -> dict[str, str]:
        """Return why steps of these cells did not succeed, by key."""
        keys = [key for cell in cells for stage, key in cell.steps.items() if stage in BEFORE]
        return failure_reasons(self.outcomes[key] for key in dict.fromkeys(keys))

    def steps(self, cells: tuple[PlannedCell, ...]) -> tuple[PackedStep, ...]:
        """Return the steps that remain, parents first."""
        wanted = {key for cell in cells for stage, key in cell.steps.items() if stage in INPUTS}
        steps = [step for key, step in self.plan.steps.items() if key in wanted]
        return tuple(_packed(step, wanted) for step in steps)


def describe(matrix: Matrix, plan: Plan, outcomes: Mapping[str, Outcome]) -> Pack:
    """Describe the pack, without its files.

    Cells of runtimes that build nothing are not in it: these run the model itself.
    """
    packing, spec = _Packing(plan, outcomes), matrix.spec
    cells = tuple(packing.cell(one) for one in plan.cells if one.refused or "build" in one.steps)
    return Pack(
        contents.VERSION,
        plan.name,
        # Defaults are left out: a stated tolerance would hold for every precision.
        spec.verify.model_dump(exclude_unset=True),
        spec.limits.model_dump(exclude_unset=True),
        spec.measure.threads,
        tuple(name for name, one in spec.targets.items() if not (one.accelerator or one.device)),
        cells,
        packing.steps(cells),
        packing.reasons(cells),
        {},
    )


def _packed(step: Step, remaining: set[str]) -> PackedStep:
    packages = tuple(name for name, _ in step.toolchain)
    parents = tuple(key for key in step.parents if key in remaining)
    return PackedStep(step.stage, step.key, step.label, step.inputs, packages, parents, step.needs)


def _members(pack: Pack, store: Store) -> Iterator[tuple[str, writing.Source]]:
    """Yield the artifacts that the remaining steps read, and the records of all other steps."""
    read = {ref for step in pack.steps for ref in refs_of(step.inputs)}
    for ref in _known(pack):
        record = store.record(ref)
        if record is None:
            continue  # it failed: `reasons` says why
        folder = store.files(ref)
        if ref not in read:
            yield from small_files(record, folder)
            continue
        for name in ("record.json", *record.files):
            yield f"store/{folder.relative_to(store.root).as_posix()}/{name}", folder / name


def _known(pack: Pack) -> list[Ref]:
    """The steps before the build."""
    found = (Ref(*one) for cell in pack.cells for one in cell.steps.items() if one[0] in BEFORE)
    return list(dict.fromkeys(found))


def _file(source: writing.Source) -> PackedFile:
    if isinstance(source, bytes):
        return PackedFile(len(source), hashlib.sha256(source).hexdigest())
    sha, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while data := file.read(1 << 20):
            sha.update(data)
            size += len(data)
    return PackedFile(size, sha.hexdigest())


def _report(pack: Pack, plan: Plan, parts: list[Path]) -> int:
    """Report what was packed, and print the paths. Returns the exit code."""
    if out := len(plan.cells) - len(pack.cells):
        log.info(
            f"{out} cells are not packed: their runtime builds nothing and runs the model itself."
        )
    size = sum(path.stat().st_size for path in parts) / 2**20
    log.info(f"{len(pack.cells)} cells, {len(pack.steps)} steps, {size:.1f} MiB:")
    for path in parts:
        print(path)
    if pack.reasons:
        log.info(f"Failed before the build:{_why(pack)}")
    return 1 if pack.reasons else 0


def _why(pack: Pack) -> str:
    return "".join(f"\n  {reason}" for reason in dict.fromkeys(pack.reasons.values()))

"""`make gpu-pack`: everything that a machine with a GPU and no network needs of a matrix.

    python -m farm.acceptance.pack matrices/gpu.yaml build/gpu-pack

Does the matrix's check, prepare, reference and export on this machine, as a sweep would, and
packs what they left with the inputs of the steps that remain.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from farm.acceptance import contents, signs
from farm.acceptance.contents import Pack, PackedCell
from farm.catalog import RUNTIMES
from farm.cli.places import results_folder, store_folder
from farm.cli.progress import Progress, say
from farm.config.loader import Matrix, load_matrix
from farm.config.schema import VerifySpec
from farm.engine.scheduler import run_steps
from farm.errors import FarmError, InputError, InputErrors
from farm.plan import Plan, make_plan
from farm.plan.packages import version
from farm.plan.placement import cores
from farm.run import guarded, parse
from farm.specs import Ref
from farm.store import Store
from farm.sweep import Choices, checked_plan, starter

BEFORE = ("check", "prepare", "reference", "export", "convert")
"""Stages that need no GPU."""

PYTHON = "3.10"
PACKAGES = ("PyYAML", "pydantic")
BARE_PACKAGES = ("pycocotools",)
"""What the remaining steps import beside numpy and the runtime; the bare ones without what they
need, which is numpy: an engine's runtime and numpy must be there already, and fit each other."""

MOST_BYTES = 55 << 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m farm.acceptance.pack", description=__doc__)
    parser.add_argument("matrix", help="the matrix file (YAML)")
    parser.add_argument("folder", type=Path, help="gets the pack, and DIR.tar.xz beside it")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--results", metavar="DIR", help="whose store keeps what is done here")
    parser.add_argument("--executor", choices=("ray", "inline"), default="ray")
    parser.add_argument(
        "--without-packages", action="store_true", help=f"leave out those for Python {PYTHON}"
    )
    return guarded(_pack, parse(parser))


def _pack(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    _replaceable(folder)
    matrix = load_matrix(options.matrix, options.overrides)
    _self_contained(matrix)
    folder.mkdir(parents=True, exist_ok=True)  # told now where it cannot be, not after the work
    store = Store(store_folder(results_folder(options.results, matrix)))
    plan = done_before(matrix, store, options.executor)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pack = packed(matrix, plan)
    contents.write(pack, folder)
    for ref in dict.fromkeys(ref for cell in pack.cells for ref in cell.refs):
        _take(ref, store, folder)
    if not options.without_packages:
        add_packages(folder / f"python{PYTHON}")
    archive = compressed(folder)
    size = archive.stat().st_size
    say(f"{len(pack.cells)} cells: {archive}, {size / 2**20:.1f} MiB")
    if size > MOST_BYTES:
        say(f"More than {MOST_BYTES >> 20} MiB: too large for one transfer to some machines.")
    return 0


def _replaceable(folder: Path) -> None:
    """Raises InputError for what is no pack: a new one takes the place of all that is there."""
    if not folder.exists() or (folder / contents.NAME).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        reason = f"neither empty nor a pack (it has no {contents.NAME}), and would be removed"
        raise InputError(f"{reason}; name a new folder", str(folder))


def _self_contained(matrix: Matrix) -> None:
    """Raises InputError for options that name files: a pack does not carry them."""
    for runtime in dict.fromkeys(cell.runtime for cell in matrix.cells):
        known = RUNTIMES[runtime].option_names
        if "plugins" in known and matrix.spec.runtime_options.get(runtime, {}).get("plugins"):
            place = ("runtime_options", runtime, "plugins")
            raise InputError(
                "'plugins': a pack does not carry plug-in libraries; leave them out with "
                f"runtime_options.{runtime}.plugins=null",
                matrix.document.where(place),
            )


def done_before(matrix: Matrix, store: Store, executor: str) -> Plan:
    """The matrix's plan, every step before the build done. Raises FarmError if one cannot be."""
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    with ExitStack() as stack:
        start = starter(store, Choices(executor=executor), stack)
        plan = checked_plan(matrix, store, start, retry_failed=False, stages=BEFORE)
        steps = {key: step for key, step in plan.steps.items() if step.stage in BEFORE}
        left = [step for step in steps.values() if not store.record(step.ref)]
        with Progress(left, cores()) as progress:
            outcomes = run_steps(steps, store, start, progress)
    for outcome in outcomes.values():
        if outcome.status != "done":
            step = steps[outcome.key]
            raise FarmError(f"{step.stage} {step.label}: {outcome.reason}")
    return plan


def packed(matrix: Matrix, plan: Plan) -> Pack:
    """Runtimes that build nothing run the model itself: they stay out of a pack."""
    spec = matrix.spec
    cells = [_cell(one.cell, one.steps, one.refused, plan) for one in plan.cells]
    targets: dict[str, Any] = {}
    for cell in cells:
        if cell.build is not None:
            targets.setdefault(cell.build.target.name, cell.build.target)
    return Pack(
        contents.VERSION, plan.name, _said(spec.verify), spec.measure.threads,
        tuple(targets.values()), tuple(one for one in cells if one.build or one.refused),
    )  # fmt: skip


def _said(verify: VerifySpec) -> dict[str, Any]:
    """What the matrix itself says: written out, a default would count as said, and hold for every
    precision."""
    return verify.model_dump(exclude_unset=True)


def _cell(cell: Any, keys: Any, refused: str | None, plan: Plan) -> PackedCell:
    done = {stage: key for stage, key in keys.items() if stage in BEFORE}
    if refused or "build" not in keys:
        return PackedCell(cell, done, refused=refused)
    left: dict[str, Any] = {
        stage: plan.steps[keys[stage]].inputs for stage in keys if stage not in BEFORE
    }
    return PackedCell(cell, done, **left)


def _take(ref: Ref, store: Store, folder: Path) -> None:
    """An artifact into the pack's store; its ONNX file in parts."""
    source, place = store.path(ref), Store(folder / contents.STORE).path(ref)
    blocks = folder / contents.BLOCKS
    blocks.mkdir(exist_ok=True)
    place.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir():
            (place / name).mkdir()
        elif path.suffix == ".onnx":
            signs.take_apart(path, place / name, blocks)
        elif path.name != "step.log":
            shutil.copyfile(path, place / name)


def add_packages(folder: Path) -> None:
    """The packages, of the versions here, for a machine that has that Python and no pip."""
    for names, more in ((PACKAGES, ()), (BARE_PACKAGES, ("--no-deps",))):
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--upgrade",
            "--target", str(folder), "--only-binary=:all:", "--implementation", "cp",
            "--python-version", PYTHON, "--platform", "manylinux_2_28_x86_64",
            "--platform", "manylinux2014_x86_64", *more,
            *(f"{name}=={version(name)}" for name in names),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FarmError(f"packages for Python {PYTHON} cannot be had: {done.stderr.strip()}")


def compressed(folder: Path) -> Path:
    """FOLDER.tar.xz, without what pip leaves beside the packages."""
    archive = folder.with_name(f"{folder.name}.tar.xz")
    part = archive.with_name(f"{archive.name}.part")
    with tarfile.open(part, "w:xz", preset=3) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                tar.add(path, str(path.relative_to(folder)), filter=_anonymous)
    part.replace(archive)
    return archive


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(uid=0, gid=0, uname="", gname="", mtime=0, deep=False)


if __name__ == "__main__":
    sys.exit(main())

"""The command `gpu/acceptance.py`: from a pack to a table, one line of JSON and an exit code."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from farm.acceptance import contents, machine, records, table
from farm.acceptance.machine import NoGpu
from farm.acceptance.restore import restore
from farm.acceptance.run import CUT_SHORT, Acceptance, Clock, exit_code
from farm.acceptance.steps import Place, Work, remaining
from farm.catalog import RUNTIMES
from farm.cli.progress import say
from farm.errors import InputError, nearest
from farm.plan.packages import version
from farm.run import guarded
from farm.store import Store


def run(options: argparse.Namespace, folder: Path) -> int:
    """folder: the pack's, unpacked. Returns the exit code; raises InputError and NoGpu."""
    clock = Clock(options.minutes * 60, options.began)
    pack = contents.read(folder)
    options.out.mkdir(parents=True, exist_ok=True)
    store = Store(options.store / "store")
    store.root.mkdir(parents=True, exist_ok=True)
    store.sweep_out()
    works, told = _planned(pack, options)
    new = restore(pack, folder, store)
    say(f"{len(works)} cells on {told['target']}; {new} artifacts from the pack are new here")
    if options.records is not None:
        _take_in(options.records, store)
    acceptance = Acceptance(
        pack, told["target"], works, store, options.out, clock, told, options.step_minutes * 60
    )
    rows = acceptance.run(options.retry_failed)
    print(table.table(rows))
    if acceptance.ended != "done":
        why = CUT_SHORT if acceptance.ended == "time" else "interrupted"
        say(f"Ended: {why}. What was finished is kept: the same command goes on from there.")
    print(acceptance.summary(rows), flush=True)
    return exit_code(acceptance.ended, rows)


def _planned(pack: contents.Pack, options: argparse.Namespace) -> tuple[list[Work], dict[str, Any]]:
    """The cells that are asked for, and the machine's description."""
    own = {cell.cell.runtime for cell in pack.cells}
    runtime = options.runtime
    if runtime is not None and runtime not in RUNTIMES:
        raise InputError(f"unknown runtime {runtime!r}{nearest(runtime, RUNTIMES)}", "--runtime")
    accelerated = any(RUNTIMES[name].accelerators for name in ({runtime} if runtime else own))
    found = machine.gpu() if accelerated else None
    target = (
        machine.gpu_target(found, pack.targets, options.target) if found else machine.cpu_target()
    )
    cache = f"{(options.store / 'timing-cache').resolve()}/"
    works = remaining(pack, Place(target, runtime, cache))
    if not works:
        raise InputError(
            f"no cell of this pack has a file for {runtime or 'its runtime'}", "--runtime"
        )
    if accelerated and runtime is None and machine.ORT_CUDA not in own:
        if why := machine.ort_cuda_missing():
            say(f"Without ONNX Runtime's CUDA provider: {why}.")
        else:
            works += remaining(pack, Place(target, machine.ORT_CUDA, cache))
    works = _only(works, options.only)
    runtimes = list(dict.fromkeys(work.cell.runtime for work in works))
    for name in runtimes:
        if absent := [one for one in RUNTIMES[name].packages if version(one) == "absent"]:
            raise InputError(f"{', '.join(absent)} not installed for this Python", sys.executable)
    return works, machine.told(target, runtimes, found)


def _take_in(path: Path, store: Store) -> None:
    """What an earlier run found, perhaps on a machine that is gone: its cells are not done again
    here, since the user asks for that, and are marked in the table. Raises InputError."""
    with tempfile.TemporaryDirectory(prefix="farm-records-") as scratch:
        folder = records.opened(path, Path(scratch))
        count = records.take_in(records.read(folder), folder, store, path.name)
    say(f"{count} records of an earlier run are new here")


def _only(works: list[Work], words: list[str]) -> list[Work]:
    """The cells in whose names every word stands. Raises InputError where none is left."""
    left = [work for work in works if all(word in work.cell.id for word in words)]
    if not left:
        known = "\n  ".join(work.cell.id for work in works)
        raise InputError(f"no cell has {' and '.join(words)} in its name:\n  {known}", "--only")
    return left


def main(options: argparse.Namespace, folder: Path) -> int:
    """`run`, with errors as their user should read them."""

    def accept(options: argparse.Namespace) -> int:
        try:
            return run(options, folder)
        except NoGpu as error:
            say(f"farm: {error}")
            return 3

    return guarded(accept, options)

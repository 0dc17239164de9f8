"""`farm models`: check mmdet's families model by model, and print the table."""

from __future__ import annotations

import argparse
import datetime
import itertools
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from farm.catalog import OPSETS
from farm.cli import writable
from farm.cli.places import results_folder
from farm.errors import InputError, nearest
from farm.models import table
from farm.models.families import FILE, KINDS, Family, chosen, read
from farm.models.records import Record, Records, Trial, exporter, key, versions
from farm.runtimes import engine_runtimes

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).resolve().parent.parent.parent / "docs" / "models.jsonl"
"""The records of the project's own table, in a checkout."""

_Case = tuple[int, str, str]
"""The opset, the kind of shapes and the runtime of a trial."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `farm models`."""
    parser.set_defaults(command=models)
    add = parser.add_argument
    add(
        "--families",
        default=str(FILE),
        metavar="FILE",
        help="a file of your models (default: mmdet's)",
    )
    add(
        "--family", action="append", default=[], metavar="NAME", help="only this model (repeatable)"
    )
    opsets, runtimes = f"{OPSETS[0]} to {OPSETS[-1]}", "one that runs on a CPU, such as openvino"
    add(
        "--opset",
        action="append",
        type=int,
        default=[],
        metavar="N",
        help=f"only this opset, {opsets} (repeatable)",
    )
    add(
        "--runtime",
        action="append",
        default=[],
        metavar="NAME",
        help=f"only this runtime, {runtimes} (repeatable)",
    )
    add("--shapes", action="append", choices=KINDS, default=[], help="only files of these shapes")
    before = "earlier results (default: in the results folder, beginning with the project's own)"
    add("--records", metavar="FILE", help=before)
    add("--markdown", metavar="FILE", help="write the table of all models to this file")
    add("--again", action="store_true", help="try again what is on record")
    add("--show", action="store_true", help="print what is on record, and try nothing")


def models(options: argparse.Namespace) -> int:
    """Run `farm models`. Return exit code 1 if an export differs from PyTorch, or cannot be run.

    A model that is known not to export does not count as different.

    Raises:
        InputError: an option, or a file that it names, is wrong.
    """
    every = read(Path(options.families))
    families, records = chosen(options.family, every), _records(options.records, options.show)
    page = _page(options.markdown, (records.path, options.families))
    cases = [
        (opset, kind, runtime)
        for opset in _known("--opset", options.opset, OPSETS)
        for kind in dict.fromkeys(options.shapes or KINDS)
        for runtime in _known("--runtime", options.runtime, engine_runtimes(on_cpu=True))
    ]
    for number, family in enumerate(families, 1):
        own = [case for case in cases if case[1] in family.kinds]
        todo = [
            case for case in own if options.again or _needs_trial(records.get(key(family, *case)))
        ]
        if todo and not options.show:
            log.info(f"[{number}/{len(families)}] {family.name}: {len(todo)} of {len(own)} trials")
            for record in _run(family, todo):
                records.add(record)
    selected = {key(family, *case) for family in families for case in cases}
    found = [record for record in records if record.key in selected]
    print(table.as_text(families, found))
    if page:
        # Records that were shown and not named may be the project's own, which stay as they are.
        _write(page, every, records, tidy=bool(options.records) or not options.show)
    return 1 if any(record.reason and not record.refused for record in found) else 0


def _needs_trial(record: Record | None) -> bool:
    """Return whether a trial was not run to its end, was refused, or is of an older exporter.

    A refusal is quickly tried again, and the package that was missing may be installed now.
    """
    return record is None or record.refused or record.temporary or not record.current


def _write(path: Path, families: Mapping[str, Family], records: Records, tidy: bool) -> None:
    current = {
        key(family, opset, kind, runtime)
        for family in families.values()
        for opset, kind, runtime in itertools.product(OPSETS, KINDS, engine_runtimes(on_cpu=True))
    }
    # Records of other versions of packages are dropped, those of other tables kept.
    current |= {record.key for record in records if record.family not in families}
    if tidy:
        records.tidy(current)
    shown = [record for record in records if record.key in current]
    path.write_text(table.as_markdown(list(families.values()), shown))
    log.info(f"Wrote {path}")


def _records(name: str | None, show: bool) -> Records:
    """Open the named file, else that of the results, which begins as the project's own records."""
    path = Path(name) if name else results_folder(None) / "models.jsonl"
    if show:
        if name and not path.is_file():
            raise InputError("no such file", f"--records {path}")
        return Records(path if path.is_file() else SHIPPED)
    try:
        if name is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if SHIPPED.is_file() and not path.exists():
                shutil.copyfile(SHIPPED, path)
        with path.open("a"):  # fail now, not after the first trial
            pass
    except OSError as error:
        raise InputError(f"cannot write there: {error.strerror}", f"--records {path}") from None
    return Records(path)


def _page(name: str | None, read: Iterable[str | Path]) -> Path | None:
    """Return where the table goes. Raise InputError before the hours of trials."""
    return None if name is None else writable.file(name, "--markdown", read)


T = TypeVar("T")


def _known(option: str, wanted: list[T], known: tuple[T, ...]) -> list[T]:
    for value in wanted:
        if value not in known:
            raise InputError(
                f"cannot check {value!r}{nearest(str(value), map(str, known))}", option
            )
    return list(dict.fromkeys(wanted or known))


def _run(family: Family, cases: list[_Case]) -> Iterator[Record]:
    """Run these trials, and yield each one's record when all of its file are done."""
    from farm.models.steps import temporary_store
    from farm.models.trial import Subject

    with temporary_store() as store:
        subject = Subject(family, store)
        if bad := subject.unusable():
            log.info(f"  {bad.reason}")
            for opset, kind, runtime in cases:
                trial = Trial(
                    opset=opset, kind=kind, runtime=runtime, reason=bad.reason,
                    temporary=bad.temporary,
                )  # fmt: skip
                yield _record(family, trial, bad.refused)
            return
        for opset, kind in dict.fromkeys((opset, kind) for opset, kind, _ in cases):
            runtimes = [name for o, k, name in cases if (o, k) == (opset, kind)]
            for trial in subject.trials(opset, kind, runtimes):
                if trial.reason:
                    log.info(f"  opset {opset} {kind} {trial.runtime}: {trial.reason}")
                yield _record(family, trial)


def _record(family: Family, trial: Trial, refused: bool = False) -> Record:
    return Record(
        key=key(family, trial.opset, trial.kind, trial.runtime),
        family=family.name,
        config=family.config,
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions=versions(trial.runtime),
        refused=refused,
        exporter=exporter(),
        **asdict(trial),
    )

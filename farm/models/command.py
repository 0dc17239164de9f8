"""`farm models`: check mmdet's families model by model, and print the table."""

from __future__ import annotations

import argparse
import datetime
import itertools
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from farm import writable
from farm.catalog import OPSETS
from farm.cli.places import results_folder
from farm.errors import FarmError, InputError, nearest
from farm.models import table
from farm.models.families import FILE, KINDS, Family, chosen, read
from farm.models.records import Record, Records, Trial, exporter, key, versions
from farm.runtimes import engine_runtimes

if TYPE_CHECKING:
    from farm.models.trial import Subject

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).resolve().parent.parent.parent / "docs" / "models.jsonl"
"""What a checkout of the project has on record."""

_Question = tuple[int, str, str]
"""opset, kind of shapes, runtime"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--families", default=str(FILE), metavar="FILE", help="other models (default: mmdet's)")
    add("--family", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    opsets, runtimes = f"{OPSETS[0]} to {OPSETS[-1]}", "one that runs on a CPU, such as openvino"
    add("--opset", action="append", type=int, default=[], metavar="N", help=f"only this: {opsets}")
    add("--runtime", action="append", default=[], metavar="NAME", help=f"only this: {runtimes}")
    add("--shapes", action="append", choices=KINDS, default=[], help="only fixed or dynamic ones")
    before = "what was found before (default: with the results, going on from the project's own)"
    add("--records", metavar="FILE", help=before)
    add("--markdown", metavar="FILE", help="write the whole table there")
    add("--again", action="store_true", help="also what is on record already")
    add("--show", action="store_true", help="only print what is on record")


def models(options: argparse.Namespace) -> int:
    """Exit code 1 where a model is not the same detector as in PyTorch; a refusal is none."""
    every = read(Path(options.families))
    families, records = chosen(options.family, every), _records(options.records, options.show)
    page = _page(options.markdown, (records.path, options.families))
    questions = [
        (opset, kind, runtime)
        for opset in _known("--opset", options.opset, OPSETS)
        for kind in dict.fromkeys(options.shapes or KINDS)
        for runtime in _known("--runtime", options.runtime, engine_runtimes(on_cpu=True))
    ]
    for number, family in enumerate(families, 1):
        own = [question for question in questions if question[1] in family.kinds]
        todo = [q for q in own if options.again or _open(records.get(key(family, *q)))]
        if todo and not options.show:
            log.info(f"[{number}/{len(families)}] {family.name}: {len(todo)} of {len(own)} trials")
            for record in _found(family, todo):
                records.add(record)
    asked = {key(family, *question) for family in families for question in questions}
    found = [record for record in records if record.key in asked]
    print(table.as_text(families, found))
    if page:
        # What was only looked at, and not named, is perhaps the project's own: it stays as it is.
        _write(page, every, records, tidy=bool(options.records) or not options.show)
    return 1 if any(record.reason and not record.refused for record in found) else 0


def _open(record: Record | None) -> bool:
    """Whether a trial is still to be done, or was done with an older exporter. A refusal is cheap
    to look at again: a package that was missing may be there now."""
    return record is None or record.refused or not record.current


def _write(path: Path, families: Mapping[str, Family], records: Records, tidy: bool) -> None:
    current = {
        key(family, opset, kind, runtime)
        for family in families.values()
        for opset, kind, runtime in itertools.product(OPSETS, KINDS, engine_runtimes(on_cpu=True))
    }
    # What an earlier version of a package found goes; other tables' stays.
    current |= {record.key for record in records if record.family not in families}
    if tidy:
        records.tidy(current)
    shown = [record for record in records if record.key in current]
    path.write_text(table.as_markdown(list(families.values()), shown))
    log.info(f"Wrote {path}")


def _records(name: str | None, show: bool) -> Records:
    """The file named; else that of the results, which begins as a copy of the project's own."""
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
        with path.open("a"):  # told now, not after the first trial
            pass
    except OSError as error:
        raise InputError(f"cannot write there: {error.strerror}", f"--records {path}") from None
    return Records(path)


def _page(name: str | None, read: Iterable[str | Path]) -> Path | None:
    """Where the table goes. Raises InputError, before the hours of trials."""
    return None if name is None else writable.file(name, "--markdown", read)


def _known(option: str, asked: list, known: tuple) -> list:
    for value in asked:
        if value not in known:
            raise InputError(
                f"cannot check {value!r}{nearest(str(value), map(str, known))}", option
            )
    return list(dict.fromkeys(asked or known))


def _found(family: Family, questions: list[_Question]) -> Iterator[Record]:
    """The records of these trials, each as soon as it is there."""
    from farm.models.trial import Subject

    with tempfile.TemporaryDirectory() as folder:
        try:
            subject = Subject(family, Path(folder))
            reason, refused = subject.detector.facts.refused, True
            if reason is None:
                reason, refused = subject.unfit(), False
        except FarmError as error:
            # Without where it lies here: the table names the config.
            text = error.message if isinstance(error, InputError) else str(error)
            reason, refused = text.replace(folder, ""), True
        except Exception as error:  # one model must not end the hours of all
            reason, refused = f"cannot be tried: {type(error).__name__}: {error}"[:300], False
        if reason is None:
            yield from _tried(family, subject, questions)
            return
    log.info(f"  {reason}")
    for opset, kind, runtime in questions:
        trial = Trial(opset=opset, kind=kind, runtime=runtime, reason=reason)
        yield _record(family, trial, refused)


def _tried(family: Family, subject: Subject, questions: list[_Question]) -> Iterator[Record]:
    files = dict.fromkeys((opset, kind) for opset, kind, _ in questions)
    for opset, kind in files:
        runtimes = [name for o, k, name in questions if (o, k) == (opset, kind)]
        for trial in subject.trials([opset], [kind], runtimes):
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

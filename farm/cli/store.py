"""`farm store`: look after the artifacts. `farm store verify` reads all of them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.run import PLACE
from farm.terminal import logs

if TYPE_CHECKING:
    from farm.store import Store
    from farm.store.upkeep.survey import Surveyed

log = logging.getLogger(__name__)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands of `farm store`."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    text = "read every artifact, and show what is not as its step left it"
    one = commands.add_parser(
        "verify",
        help=text,
        description=f"{text.capitalize()}. Ends with 0 if all are whole, else with 1.",
    )
    one.set_defaults(command=verify)
    one.add_argument(
        "--discard",
        action="store_true",
        help="remove altered artifacts, so that the next sweep makes them anew",
    )
    one.add_argument("--results", metavar="PLACE", help=PLACE)
    logs.add_arguments(one)


def verify(options: argparse.Namespace) -> int:
    """Read every artifact, and print what is not as its step left it.

    Returns 0 if nothing was altered, or is missing or unknown, else 1.

    Raises:
        InputError: there is no store.
        OSError: an artifact cannot be removed.
    """
    from farm.cli.results import results_of
    from farm.store.upkeep.survey import remove

    store = results_of(options.results).store()
    if not store.exists():
        where = store.address
        raise InputError("there is no store here; --results names the folder of results", where)
    every = _read(store)
    wrong = [one for one in every if one.found]
    total = f"{len(every)} artifacts, {sum(one.size for one in every) / 2**20:.1f} MiB"
    if not wrong:
        print(f"{total}: all are whole.")
        return 0
    print(_table(wrong))
    altered = [one for one in wrong if one.is_altered]
    print(f"\n{total}: {len(wrong)} of them not whole.")
    for one in altered if options.discard else ():
        remove(store, one)
    print("\n".join(_advice(wrong, altered, options.discard)))
    return 1


def _read(store: Store) -> list[Surveyed]:
    """Read the artifacts that are still there: a sweep may be running."""
    from farm.store.upkeep.survey import artifacts, surveyed

    known = list(artifacts(store))
    log.info(f"Reading {len(known)} artifacts in {store.address}")
    found = (surveyed(store, *one) for one in known)
    return [one for one in found if one is not None]


def _table(wrong: Iterable[Surveyed]) -> str:
    from farm.terminal.tables import table

    rows = [
        (f"{one.ref.stage} {one.ref.key[:12]}", one.label or "-", alteration.file, alteration.how)
        for one in wrong
        for alteration in one.found
    ]
    return table(("artifact", "step", "file", "is"), rows, (False,) * 4)


def _advice(wrong: Sequence[Surveyed], altered: Sequence[Surveyed], discarded: bool) -> list[str]:
    """What was done, and what is to be done."""
    own = [one for one in altered if one.imported is None]
    names = dict.fromkeys(one.imported.origin.name for one in altered if one.imported)
    lines = []
    if own and discarded:
        lines.append(f"{len(own)} are removed: the next sweep makes them anew.")
    elif own:
        lines.append("`farm store verify --discard` removes what is altered or has files missing;")
        lines.append("the next sweep makes it anew.")
    for name in names:
        first = "" if discarded else "remove it with --discard, then "
        lines.append(f"Of the import {name}: {first}import it again.")
    if len(altered) < len(wrong):
        lines.append("Files that are unknown were left by no step; remove them by hand.")
    return lines

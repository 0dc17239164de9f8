"""Check what a pick hands out: its files and records must be as their steps left them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from farm.plan import STAGES
from farm.specs import Ref
from farm.store import integrity
from farm.store.imports import imports
from farm.store.records import HERE
from farm.store.upkeep.repair import outdated

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.select import Pick
    from farm.store import Store

_HANDED_OUT = ("export", "convert", "build")
"""The stages whose files are handed out; of others the record alone counts."""


def checked(picked: Pick, store: Store) -> Pick:
    """Return the pick, or one without a best cell if that cell's files or records were altered.

    The next best is not picked in its place: the sweep makes anew what was altered.

    Raises:
        OSError: a file cannot be read.
    """
    reason = altered(picked.best, store) if picked.best else None
    if picked.best is None or reason is None:
        return picked
    why = "the best cell was altered since its sweep"
    left_out = {picked.best["cell"]: reason, **picked.left_out}
    return replace(picked, best=None, why=why, left_out=left_out, ties=(), doubt="")


def altered(row: Row, store: Store) -> str | None:
    """Return what of a cell was altered and what to do, None if nothing was.

    Steps that are not in the store are passed over: there is nothing of them to hand out.
    """
    if row["origin"] != HERE:
        held = next((one.store for one in imports(store) if str(one.origin) == row["origin"]), None)
        found = next(_altered(row, held, ()), None) if held else None
        return found and f"{found}: run the cell here, or import the records again"
    found = next(_altered(row, store, _HANDED_OUT), None)
    return found and f"{found}: run the sweep again, which makes it anew"


def _altered(row: Row, store: Store, read: tuple[str, ...]) -> Iterator[str]:
    """What of the cell's steps was altered. read: the stages whose files are read, too."""
    contents = dict[str, str]()
    for stage in STAGES:
        key = row.get(f"{stage}_key")
        ref = Ref(stage, key or "")
        if not key or not store.holds(ref):
            continue
        record = store.any_record(ref)
        found = [] if record and stage not in read else store.altered(ref, anew=True)
        if found:
            yield f"{integrity.listed(found)} ({stage} {key[:12]})"
        elif reason := outdated(record, contents):
            yield f"{reason} ({stage} {key[:12]})"
        elif record:
            contents[f"{stage}/{key}"] = record.content

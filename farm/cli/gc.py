"""`farm gc`: remove what no kept sweep needs from a store."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.parsing import parse_bytes
from farm.run import PLACE
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.store import Store
    from farm.store.upkeep.gc import Kept, Policy
    from farm.store.upkeep.needs import Needs

_MORE = """\
Every sweep is kept, or with --keep-sweeps those that were run last; one that is running always is.
What a kept sweep needs stays. Of the rest all goes, or with --older-than what is older, or with
--max-size the oldest until the store is no larger; with both, either is reason enough. What is
younger than an hour stays, and so does what is claimed. Rows of the leaderboard and imports stay: a
sweep that is not kept makes its artifacts anew when it is run again."""

_FEW, _SHORT = 10, 24
"""How many claims are named, and by how much of their names."""

_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm gc`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_MORE}"
    parser.set_defaults(command=gc)
    add = parser.add_argument
    add("--keep-sweeps", type=_count, metavar="N", help="keep the N sweeps that were run last")
    add("--older-than", type=age, metavar="AGE", help="only what is older, as 12h, 30d or 8w")
    add(
        "--max-size", type=_size, metavar="SIZE",
        help="only until the store is no larger than that, as 200GB; the oldest goes first",
    )  # fmt: skip
    add("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    add("--results", metavar="PLACE", help=PLACE)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


def age(text: str) -> float:
    """Return the seconds of `12h`, `30d` or `8w`.

    Raises:
        ArgumentTypeError: it is no such time.
    """
    found = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 12h, 30d or 8w")
    return int(found[1]) * _UNITS[found[2]]


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def gc(options: argparse.Namespace) -> int:
    """Remove artifacts, or show which would be. Returns 0.

    Raises:
        InputError: no option says what may go, there is no store, or another gc is running.
        OSError: the store cannot be read or written.
    """
    from farm.cli.results import results_of
    from farm.engine.claims import remove_stale_work
    from farm.engine.holding import REMOVING, held
    from farm.store.upkeep.gc import Policy, clock, remove

    if options.keep_sweeps is None and options.older_than is None and options.max_size is None:
        what = "give --keep-sweeps, --older-than or --max-size, to say what may go"
        raise InputError(what, "farm gc")
    results = results_of(options.results)
    store = results.store()
    if not store.exists():
        raise InputError(
            "there is no store here; --results names the place of results", store.address
        )
    policy = Policy(options.older_than, options.max_size)
    if options.dry_run:
        _say(_found(results, store, policy, options.keep_sweeps, time.time()), dry=True)
        return 0
    with held(store, REMOVING) as alone:
        if not alone:
            raise InputError("another `farm gc` is running there", store.address)
        now = clock(store.objects)
        found = _found(results, store, policy, options.keep_sweeps, now)
        remove_stale_work(store)
        remove(store, found.gone)
    _say(found, dry=False)
    return 0


@dataclass(frozen=True)
class _Found:
    """there: all that the store has. gone: what goes of it. needed: bytes that kept sweeps need.
    most: what the user allows. kept, known: sweeps. dead: the claims of dead processes."""

    there: Sequence[Kept]
    gone: Sequence[Kept]
    needed: int
    most: int | None
    kept: Sequence[Needs]
    known: Sequence[Needs]
    dead: Sequence[str]


def _found(results: Results, store: Store, policy: Policy, keep: int | None, now: float) -> _Found:
    from farm.engine.claims import dead_claims
    from farm.store.upkeep import gc, needs

    dead, known = dead_claims(store, now), needs.read(store.objects)
    claims = gc.claimed(store.objects, now).difference(dead)
    known = [*known, *_earlier(results, store, known)]
    known.sort(key=lambda one: one.run, reverse=True)
    running = gc.running(known, claims)
    claims |= {ref.key for one in running for ref in one.steps}  # of which a run may claim none
    kept = [*dict.fromkeys([*known[:keep], *running])]
    needed = {ref for one in kept for ref in one.steps}
    there = gc.inventory(store.objects)
    gone = gc.chosen(there, needed, claims, policy, now)
    size = sum(one.size for one in there if one.ref in needed)
    return _Found(there, gone, size, policy.most_bytes, kept, known, dead)


def _earlier(results: Results, store: Store, known: Sequence[Needs]) -> Iterator[Needs]:
    """The sweeps of these results that left no word of what they need, as earlier versions did."""
    from farm.plan import STAGES
    from farm.specs import Ref
    from farm.store.upkeep.gc import with_parents
    from farm.store.upkeep.needs import Needs, id_of

    there, own = {one.id for one in known}, defaultdict[str, set[Ref]](set)
    for row in results.rows():
        keys = ((stage, row.get(f"{stage}_key")) for stage in STAGES)
        own[row["sweep"]] |= {Ref(stage, key) for stage, key in keys if key}
    for sweep, refs in own.items():
        if (id := id_of(sweep, str(results))) not in there:
            steps = frozenset(with_parents(store, refs))
            yield Needs(id, sweep, str(results), steps, results.written(sweep))


def _say(found: _Found, dry: bool) -> None:
    """Print what goes, by stage, and what stays."""
    from farm.terminal.tables import table

    names = ", ".join(dict.fromkeys(plain(one.sweep) for one in found.kept)) or "none"
    print(f"{len(found.kept)} of {len(found.known)} sweeps are kept ({names}).")
    counts, sizes = Counter[str](), Counter[str]()
    for one in found.gone:
        name = one.ref.stage or "failures"
        counts[name] += 1
        sizes[name] += one.size
    if counts:
        rows = [(name, str(counts[name]), shown(sizes[name])) for name in sorted(counts)]
        print(table(("stage", "artifacts", "size"), rows, (False, True, True)))
    gone, total = sum(sizes.values()), sum(one.size for one in found.there)
    how = "would be removed" if dry else "removed"
    print(f"{len(found.gone)} {how}: {shown(gone)} of {shown(total)}.")
    if found.dead:
        many = "claim" if len(found.dead) == 1 else "claims"
        print(f"{len(found.dead)} {many} of killed processes {how}: {_listed(found.dead)}.")
    if found.most is not None and total - gone > found.most:
        print(
            f"What is left is larger than {shown(found.most)}: kept sweeps need"
            f" {shown(found.needed)}, and what is young or claimed stays."
        )


def _listed(names: Sequence[str]) -> str:
    """The first names of a list, each as short as logs have keys, and how many more there are."""
    first = ", ".join(plain(name)[:_SHORT] for name in names[:_FEW])
    return first if len(names) <= _FEW else f"{first} and {len(names) - _FEW} more"


def shown(size: float) -> str:
    """Return a size as people read it: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"

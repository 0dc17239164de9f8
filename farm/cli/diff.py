"""`farm diff A B`: two sweeps, or two values of an axis, cell by cell."""

from __future__ import annotations

import argparse
import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from farm.parsing import number
from farm.results.tables.escaping import for_markdown
from farm.run import PLACE
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.diff import Bounds, Pair
    from farm.results.tables.values import Shown

_MORE = """\
B is better or worse than A by over 0.1 points of AP, or by a latency beyond the noise: a ratio of
the medians (p50) of over (1 + 2 a) x (1 + 2 b), where a and b are the coefficients of variation of
the two measurements (latency_cov). More samples do not narrow that, since two runs of one engine
differ by more than the samples of one run say. Worse in one thing and better in another is worse.
`broke` is ok in A and failed in B, `mended` the reverse. What has not run counts as not there:
`vanished`, `appeared`. Ends with 1 if a cell broke, vanished or is worse than a bound that is given
(one without the figure is, and a slowdown within the noise is not), with 2 for wrong input, else
with 0."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm diff`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_MORE}"
    parser.set_defaults(command=diff)
    add = parser.add_argument
    add(
        "a",
        metavar="A",
        help="a sweep's name, or axis=value,axis=value of sweep, model, opset, shape, postprocess,"
        " precision, runtime, workspace, target (sweep1,runtime=openvino@2025.2); with `earlier` it"
        " is as it was before its cells were run again (sweep1,earlier)",
    )
    add("b", metavar="B", help="likewise; cells are matched by the axes that neither selects by")
    add("--sweep", metavar="NAME", help="only the cells of this sweep")
    add(
        "--max-ap-drop",
        type=number,
        metavar="POINTS",
        help="AP that B may lose, in points of 100 (default: any)",
    )
    add(
        "--max-slowdown",
        type=number,
        metavar="PERCENT",
        help="by how much B's median latency may be over A's, where that is beyond the noise"
        " (default: any)",
    )
    add(
        "--format",
        choices=("table", "markdown", "csv", "json"),
        default="table",
        help="how it is printed (default: table)",
    )
    add("--results", metavar="PLACE", help=PLACE)


def diff(options: argparse.Namespace) -> int:
    """Print the pairs of cells with their verdicts.

    Returns 1 if one broke, vanished or is worse than a bound, else 0.

    Raises:
        InputError: there is no leaderboard, or A or B selects no cells or ambiguous ones.
    """
    from farm.cli.results import results_of
    from farm.results.diff import Bounds, Verdict
    from farm.results.kept.history import as_before
    from farm.results.pairing import pairs, parse
    from farm.results.tables.render import render_columns

    gc.disable()  # many rows; the command ends at once
    a, b = parse(options.a), parse(options.b)
    bounds = Bounds(options.max_ap_drop, options.max_slowdown)
    results = results_of(options.results, only_read=True)
    rows = results.read(sweep=options.sweep)
    before: list[Row] = []
    if a.earlier or b.earlier:
        before = as_before(rows, results.history(None, options.sweep))
    found = pairs(rows, a, b, before)
    shown = [_row(pair, bounds) for pair in found]
    print(render_columns(shown, _columns(shown, found), options.format))
    if options.format in ("table", "markdown"):
        escaped = for_markdown if options.format == "markdown" else plain
        print("\n".join(["", *map(escaped, _notes(found, bounds, options))]))
    lost = {Verdict.BROKE, Verdict.VANISHED}
    return 1 if any(pair.verdict in lost or pair.exceeds(bounds) for pair in found) else 0


_BOTH = (
    "cell", "status", "failed_stage", "reason", "box_ap", "mask_ap", "matched_fraction",
    "latency_p50_ms", "latency_cov", "samples", "runtime_version",
)  # fmt: skip

_COLUMNS = (
    ("status_a", "A", "{}"),
    ("status_b", "B", "{}"),
    ("box_ap_gain", "box AP", "{:+.3f}"),
    ("mask_ap_gain", "mask AP", "{:+.3f}"),
    ("matched_fraction_a", "match A", "{:.3f}"),
    ("matched_fraction_b", "match B", "{:.3f}"),
    ("latency_ratio", "ms B/A", "{:.2f}"),
    ("noise", "noise", "{}"),
    ("verdict", "verdict", "{}"),
)
"""Column, heading, format; csv and json have every column of `_row`."""


def _row(pair: Pair, bounds: Bounds) -> Row:
    """All that is known of a pair. Gains are in AP points of 100."""
    gains = {kind: pair.ap_gain(kind) for kind in ("box", "mask")}
    return {
        **pair.axes,
        "verdict": str(pair.verdict),
        **{
            f"{kind}_ap_gain": None if one is None else round(one, 3) for kind, one in gains.items()
        },
        "latency_ratio": pair.latency_ratio,
        "noise": {True: "beyond", False: "within", None: None}[pair.is_beyond_noise],
        "exceeds": ", ".join(pair.exceeds(bounds)),
        "unlike": ", ".join(pair.unlike),
        **{f"{name}_{side}": pair.value(name)[i] for name in _BOTH for i, side in enumerate("ab")},
    }


def _columns(rows: Sequence[Row], found: Sequence[Pair]) -> list[Shown]:
    """The axes that tell the pairs apart, and the figures that one of them has."""
    axes = [axis for axis in found[0].axes if len({pair.axes[axis] for pair in found}) > 1]
    axes = axes or [axis for axis in found[0].axes if axis == "model"]
    known = {name for row in rows for name, value in row.items() if value is not None}
    return [(axis, axis, "{}") for axis in axes] + [one for one in _COLUMNS if one[0] in known]


def _notes(found: Sequence[Pair], bounds: Bounds, options: argparse.Namespace) -> Iterator[str]:
    """What stands below a table: what A and B are, how many cells have each verdict, and why."""
    counts = Counter(str(pair.verdict) for pair in found)
    yield f"{len(found)} cells: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    yield f"A: {options.a}"
    yield f"B: {options.b}; AP is B's minus A's, in points of 100"
    broke: dict[str, list[str]] = {}
    for pair in found:
        cell = pair.value("cell")[1] or pair.value("cell")[0]
        if exceeded := pair.exceeds(bounds):
            yield f"worse than its bound in {' and '.join(exceeded)}: {cell}"
        if str(pair.verdict) == "broke":
            why = f"broke at {pair.value('failed_stage')[1]}: {pair.value('reason')[1]}"
            broke.setdefault(why, []).append(cell)
    for why, cells in broke.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        yield f"{why}: {cells[0]}{more}"
    for name, count in Counter(name for pair in found for name in pair.unlike).items():
        yield f"not alike in {count} cells, which may be why they differ: {name}"

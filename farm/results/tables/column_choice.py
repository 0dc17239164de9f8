"""Which columns a table shows: those that say something of its cells, and fit into the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from farm.results.columns import COLUMNS, Row
from farm.results.names import outer
from farm.results.tables.values import Shown, is_numeric, texts
from farm.store.records import HERE
from farm.terminal.tables import text_width

_USUAL = (
    "model", "runtime", "opset", "shape", "postprocess", "precision", "box_ap", "box_ap_drop",
    "voc_map", "mask_ap", "cosine", "latency_p50_ms", "rank", "speedup_vs_fp32",
    "throughput_per_s", "status", "origin",
)  # fmt: skip
"""The order in tables, which then fit 80 columns in most cases; csv and json have every column."""

WIDE = (
    ("vs_best", "vs best", "{:.2f}"),
    ("latency_p90_ms", "p90 ms", "{:.2f}"),
    ("latency_min_ms", "min ms", "{:.2f}"),
    ("box_ap50", "AP50", "{:.4f}"),
    ("matched_fraction", "matched", "{:.3f}"),
    ("max_score_diff", "score diff", "{:.4f}"),
    ("samples", "samples", "{:d}"),
    ("build_s", "build s", "{:.1f}"),
    ("threads", "threads", "{:d}"),
    ("runtime_version", "version", "{}"),
    ("measured_at", "measured (UTC)", "{}"),
)
"""What a table has besides where the terminal is wide enough, the most important first."""

_ALWAYS = ("model", "runtime", "box_ap", "latency_p50_ms", "rank", "status")
"""Shown however narrow the terminal is."""

_TELL_APART = ("target", "sweep", "opset", "shape", "precision", "postprocess", "origin")
"""Without these, rows of different cells look alike: texts are folded to have room for them."""

_FOLDED = 15
"""The columns of a terminal that a text may have before others are left out for it."""

_HOW = "(wider terminal, or farm leaderboard --columns)"


def shown_columns(rows: Sequence[Row]) -> list[Shown]:
    """Return the columns with a heading in which a row differs from the default."""
    defaults = {"postprocess": "graph", "precision": "fp32", "origin": HERE}
    headed = [name for name, column in COLUMNS.items() if column.heading]
    return [
        (name, COLUMNS[name].heading, COLUMNS[name].form)
        for name in dict.fromkeys((*_USUAL, *headed))
        if any(row.get(name) not in (None, defaults.get(name)) for row in rows)
    ]


def that_fit(
    rows: Sequence[Row], columns: Sequence[Shown], width: int
) -> tuple[list[Shown], list[Shown]]:
    """Return what a terminal has room for, and what is left out, the most important first.

    columns: the usual ones in their order; those of `WIDE` follow where there is room.
    """
    more = [one for one in WIDE if any(row.get(one[0]) is not None for row in rows)]
    widths = {one: text_width([one[1], *texts(rows, one, str)]) for one in (*columns, *more)}
    folded = {one: own if is_numeric(one) else min(own, _FOLDED) for one, own in widths.items()}
    telling = sorted(
        (one for one in columns if one[0] in _TELL_APART),
        key=lambda one: _TELL_APART.index(one[0]),
    )
    figures = [one for one in columns if one[0] not in (*_ALWAYS, *_TELL_APART)]
    found = [one for one in columns if one[0] in _ALWAYS]
    for some, own, gap in ((telling, folded, 1), (figures, widths, 1), (more, widths, 2)):
        room = width + gap - sum(own[one] + gap for one in found)
        for one in some:
            if own[one] + gap <= room:
                found.append(one)
                room -= own[one] + gap
    return (
        [one for one in (*columns, *more) if one in found],
        [one for one in (*telling, *figures, *more) if one not in found],
    )


def left_out(columns: Iterable[Shown], width: int) -> list[str]:
    """Return the line that names columns for which there was no room, and says how to see them.

    Of those that are shown in wide terminals alone as many are named as the line has room for.
    """
    names = [outer(name) for name, _, _ in columns]
    if not names:
        return []
    wide = {outer(name) for name, _, _ in WIDE}
    least = max(1, sum(name not in wide for name in names))
    for count in range(len(names), least - 1, -1):
        more = f" and {len(names) - count} more" if count < len(names) else ""
        line = f"Left out: {', '.join(names[:count])}{more} {_HOW}"
        if len(line) <= width:
            break
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)

"""What an acceptance came to: a table of its cells, and one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from farm.results.columns import Row
from farm.store.imports import HERE
from farm.terminal import plain, plain_lines
from farm.units import format_bytes

_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("model", "model", "{}"),
    ("shape", "shape", "{}"),
    ("precision", "prec", "{}"),
    ("workspace", "ws", "{}"),
    ("runtime", "runtime", "{}"),
    ("build_s", "build s", "{:.1f}"),
    ("engine_mb", "MB", "{:.0f}"),
    ("matched_fraction", "matched", "{:.4f}"),
    ("max_score_diff", "score diff", "{:.1e}"),
    ("latency_p50_ms", "p50 ms", "{:.2f}"),
    ("device_p50_ms", "gpu ms", "{:.2f}"),
    ("status", "status", "{}"),
)


_MOST_LINES = 8
"""Of one reason; the records have it whole."""


def table(rows: Sequence[Row], width: int = 98) -> str:
    """The cells in their order; then why some did not end well, each reason once."""
    shown = [_with_words(row) for row in rows]
    runtimes = {row["runtime"] for row in rows}
    columns = [one for one in _COLUMNS if one[0] != "runtime" or len(runtimes) > 1]
    cells = [[_text(row[name], form) for name, _, form in columns] for row in shown]
    heads = [heading for _, heading, _ in columns]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = []
    for line in (heads, ["-" * one for one in widths], *cells):
        padded = [
            text.ljust(size) if form == "{}" else text.rjust(size)
            for text, size, (_, _, form) in zip(line, widths, columns, strict=True)
        ]
        lines.append(" ".join(padded).rstrip()[:width])
    return "\n".join(lines + _reasons(rows))


def _with_words(row: Row) -> Row:
    workspace, size = row["workspace_bytes"], row["engine_bytes"]
    status = row["status"]
    status = f"{status} ({row['failed_stage']})" if status == "failed" else status
    return row | {
        "workspace": format_bytes(workspace) if workspace else None,
        "engine_mb": size / 1e6 if size is not None else None,
        "status": status if row["origin"] == HERE else f"{status}, imported",
    }


def _text(value: Any, form: str) -> str:
    return "-" if value is None else plain(form.format(value))


def _reasons(rows: Sequence[Row]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] == "failed":
            found.setdefault((row["failed_stage"], row["reason"]), []).append(row["cell"])
    lines = []
    for (stage, reason), cells in found.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        told = [f"  {line[:200]}" for line in plain_lines(reason)[:_MOST_LINES]]
        lines += ["", plain(f"failed at {stage}: {cells[0]}{more}"), *told]
    return lines


def summary(rows: Sequence[Row], machine: Mapping[str, Any], ended: str) -> str:
    """One line of JSON: the machine, how many cells ended how, and the worst differences."""
    states = [row["status"] for row in rows]
    precisions = dict.fromkeys(row["precision"] for row in rows)
    found = {
        **machine,
        "ended": ended,
        "cells": {state: states.count(state) for state in ("ok", "failed", "pending")},
        "verified": sum(row["matched_fraction"] is not None for row in rows),
        "measured": sum(row["latency_p50_ms"] is not None for row in rows),
        "worst": {name: _worst([r for r in rows if r["precision"] == name]) for name in precisions},
    }
    return json.dumps(found)


def _worst(rows: Sequence[Row]) -> dict[str, float | None]:
    def known(name: str) -> list[float]:
        return [row[name] for row in rows if row[name] is not None]

    return {
        "matched_fraction": min(known("matched_fraction"), default=None),
        "max_score_diff": max(known("max_score_diff"), default=None),
        "max_box_diff_px": max(known("max_box_diff_px"), default=None),
        "min_mask_iou": min(known("min_mask_iou"), default=None),
    }

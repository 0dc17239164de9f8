"""What is said below a table: why cells did not end well, and where imported ones come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.store.records import HERE
from farm.terminal import plain, plain_lines

if TYPE_CHECKING:
    from farm.results.columns import Row


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return why cells failed, were skipped or were not run: each reason once, with the
    number of its cells."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] == "failed":
            what = f"failed at {row['failed_stage']}", row["reason"]
            by_reason.setdefault(what, []).append(row["cell"])
        elif row["status"] == "skipped":
            by_reason.setdefault(("skipped", row["reason"]), []).append(row["cell"])
        elif row["status"] == "pending" and ": " in row["reason"]:
            by_reason.setdefault(("pending", row["reason"]), []).append(row["cell"])
    lines = [""] if by_reason else []
    for (how, reason), cells in by_reason.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        lines.append(plain(f"{how}: {cells[0]}{more}"))
        lines += [f"  {line}" for line in plain_lines(reason)]
    return lines


def origins(rows: Sequence[Row]) -> list[str]:
    """Return what the values of the column "from" mean."""
    found = sorted({row["origin"] for row in rows} - {HERE})
    lines = [""] if found else []
    for origin in found:
        digest, _, name = origin.partition(" ")
        lines.append(
            plain(f"from {digest[:4]}: imported ({name}); measured on another machine and")
        )
        lines.append("  not checked here; the engines are on that machine")
    return lines

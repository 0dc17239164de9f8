"""Cells that failed or were not run: each reason once, with its cells and the end of its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.specs import Ref
from farm.store.records import HERE
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.store import Store

_LOG_BYTES = 6000
"""Of the end of a log; an error is at its end."""

_MOST_LOGS = 40
"""So many logs are in a page, so that its size has a bound."""


@dataclass(frozen=True)
class Failure:
    """Cells that ended in the same way. title: `failed at STAGE`, or their status. log: the end of
    the log of the first one's step; '' where there is none."""

    title: str
    reason: str
    cells: tuple[str, ...]
    log: str = ""


def failures(rows: Sequence[Row], store: Store) -> list[Failure]:
    """Return the failures of these rows, those of the most cells first."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["status"] != "ok":
            stage = row["failed_stage"]
            title = f"failed at {stage}" if row["status"] == "failed" else row["status"]
            groups.setdefault((plain(title), row["reason"] or ""), []).append(row)
    ordered = sorted(groups.items(), key=lambda one: -len(one[1]))
    return [
        Failure(
            title,
            plain(reason, "\n"),
            tuple(plain(row["cell"]) for row in own),
            _log(own[0], store) if number < _MOST_LOGS else "",
        )
        for number, ((title, reason), own) in enumerate(ordered)
    ]


def _log(row: Row, store: Store) -> str:
    """The end of the log of the step that failed, made safe; '' if it is not kept here."""
    stage = row["failed_stage"]
    key = row.get(f"{stage}_key") if row["origin"] == HERE else None
    if not key:
        return ""
    try:
        with store.log_path(Ref(stage, key)).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode(errors="backslashreplace")
    except OSError:
        return ""
    if size > _LOG_BYTES:
        text = "... " + text.partition("\n")[2]
    return plain(text, "\n\t").strip()

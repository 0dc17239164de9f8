"""One thing that `farm doctor` looked for, and how it is shown."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]

WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: `found` says what there is, `how` how to get what lacks."""

    name: str
    status: Status
    found: str
    how: str = ""


def lines(finding: Finding) -> str:
    head = f"{finding.status:<8} {finding.name:<12} "
    indent = " " * len(head)
    found = textwrap.fill(finding.found, WIDTH, initial_indent=head, subsequent_indent=indent)
    if not finding.how:
        return found
    # A command must stay in one piece: no break at its hyphens, none inside its words.
    how = textwrap.fill(
        finding.how,
        WIDTH,
        initial_indent=f"{indent}-> ",
        subsequent_indent=f"{indent}   ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"{found}\n{how}"

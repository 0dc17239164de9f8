"""How a finding of `farm doctor` is shown."""

from __future__ import annotations

import textwrap

from farm.findings import Finding

WIDTH = 80


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

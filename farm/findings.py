"""Findings: what `farm doctor` looked for, and how to get what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: `found` says what there is, `how` how to get what lacks."""

    name: str
    status: Status
    found: str
    how: str = ""


def extra(name: str) -> str:
    """Return the command that installs one of the farm's extras."""
    return f"pip install -e '.[{name}]' -c constraints.txt"


def installed(package: str) -> bool:
    """Whether the package's metadata are here; nothing is imported."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True

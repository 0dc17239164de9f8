"""Where records come from: this store itself, or an import."""

from __future__ import annotations

from dataclasses import dataclass

HERE = "here"
"""The origin of the records that are not imported."""


@dataclass(frozen=True)
class Origin:
    """Where an import comes from.

    name: of the archive or folder. digest: the sha256 of all that was imported from it. imported:
    when, in seconds since 1970.
    """

    name: str
    digest: str
    imported: float

    def __str__(self) -> str:
        """Return the leaderboard's name for it: `1a2b3c4d5e6f records.tar.gz`."""
        return f"{self.digest[:12]} {self.name}"

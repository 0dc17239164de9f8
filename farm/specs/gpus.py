"""An NVIDIA GPU, as plans and runtimes know it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One GPU: `NVIDIA H200`, compute capability `9.0`, driver `580.95.05`.

    memory_bytes: 0 where it was not looked for.
    """

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int = 0

    @property
    def branch(self) -> str:
        """The driver's branch: NVIDIA keeps engines compatible within one, and numbers it so."""
        return self.driver.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability}, driver {self.branch})"

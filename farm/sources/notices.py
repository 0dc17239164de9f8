"""What the farm finds out or looks for while it reads a config, for whoever wants to know.

Imports no library, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, ParamSpec

from farm.plan import config_files

P = ParamSpec("P")


class Notice(Generic[P]):
    """Calls whoever listens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[P, None]] = []

    def send(self, *arguments: P.args, **named: P.kwargs) -> None:
        for listen in self._listeners:
            listen(*arguments, **named)

    @contextmanager
    def heard_by(self, listen: Callable[P, None]) -> Iterator[None]:
        self._listeners.append(listen)
        try:
            yield
        finally:
            self._listeners.remove(listen)


merged = Notice[[str]]()
"""With the merged config as text, the same for the same values."""

sought = Notice[[str, config_files.Reach]]()
"""With the name of a file that the farm is about to look for, and where."""


def find(name: str, config: str, reach: config_files.Reach) -> Path | None:
    """A file that a config names; None where it is in no folder. config: its path."""
    sought.send(name, reach)
    return config_files.first(name, Path(config).parent, reach)

"""Notifies listeners of what the farm finds or looks for while it reads a config.

The module imports no library, so that importing it is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, ParamSpec

from farm.plan.content import config_files

P = ParamSpec("P")


class Notice(Generic[P]):
    """Calls the registered listeners."""

    def __init__(self) -> None:
        self._listeners: list[Callable[P, None]] = []

    def send(self, *arguments: P.args, **named: P.kwargs) -> None:
        """Call every listener with these arguments."""
        for listen in self._listeners:
            listen(*arguments, **named)

    @contextmanager
    def heard_by(self, listen: Callable[P, None]) -> Iterator[None]:
        """Register a listener for the duration of the block."""
        self._listeners.append(listen)
        try:
            yield
        finally:
            self._listeners.remove(listen)


merged = Notice[[str]]()
"""Sends the merged config as text; equal values give equal text."""

sought = Notice[[str, config_files.Reach]]()
"""Sends the name of a file that the farm is about to look for, and the folders."""


def find(name: str, config: str, reach: config_files.Reach) -> Path | None:
    """Return a file that a config names; None where no folder has it. config: the config's path."""
    sought.send(name, reach)
    return config_files.first(name, Path(config).parent, reach)

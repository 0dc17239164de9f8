"""Stages: each a function of its frozen inputs and a working folder, one file each.

A stage knows no scheduler, no tracker and no other stage. It reads artifacts from the store,
writes its own files into `context.folder`, and returns its figures: plain JSON values, raw.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.specs import Ref
from farm.store import Store


@dataclass(frozen=True)
class Context:
    """Where a stage works. threads: how many cores it may use."""

    store: Store
    folder: Path
    threads: int

    def artifact(self, ref: Ref) -> Path:
        """The folder of a finished step."""
        return self.store.path(ref)


Stage = Callable[[Any, Context], Mapping[str, Any]]


def stage(name: str) -> Stage:
    """The function `run` of `farm.stages.<name>`, or another package's; imports what it needs."""
    from farm.catalog import EXTRA_STAGES

    if name in EXTRA_STAGES:
        return EXTRA_STAGES[name].run()
    run: Stage = importlib.import_module(f"farm.stages.{name}").run
    return run

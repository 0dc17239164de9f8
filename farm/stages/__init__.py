"""Stages: each one file or folder, a function of its frozen inputs and a working folder.

`farm.parts.stages` has the descriptor of each, which is what the plan knows of it.

A stage knows no scheduler, no tracker and no other stage. It reads artifacts from the store,
writes its own files into `context.folder`, and returns its figures: plain JSON values, raw.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.specs import Ref
    from farm.store import Store


@dataclass(frozen=True)
class Context:
    """The store, a stage's working folder, and how many cores (`threads`) it may use.

    parents: the digests of the artifacts that the stage has read so far, as a record has them.
    """

    store: Store
    folder: Path
    threads: int
    parents: dict[str, str] = field(default_factory=dict)

    def artifact(self, ref: Ref) -> Path:
        """Return the folder of a finished step, whose files are as that step left them.

        Raises:
            AlteredArtifact: they are not; it is removed, so that its step can run again.
        """
        self.parents[f"{ref.stage}/{ref.key}"] = self.store.require_whole(ref).content
        return self.store.path(ref)


Stage = Callable[[Any, Context], Mapping[str, Any]]


def stage(name: str) -> Stage:
    """Return the function `run` of `farm.stages.<name>`, or another package's.

    Raises:
        InputError: another package's stage cannot be loaded.
    """
    from farm.catalog import EXTRA_STAGES

    if name in EXTRA_STAGES:
        return EXTRA_STAGES[name].run()
    run: Stage = importlib.import_module(f"farm.stages.{name}").run
    return run

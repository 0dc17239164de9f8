"""The descriptor of a type of data set: its entry in a matrix, and what opens it.

A type is one line in `farm.catalog`, or an object in another package that the entry point
`farm.datasets` names. Whatever it is made of, it is opened as a folder of images and an annotation
file in COCO's format, so that `check` and `prepare` treat all types alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm.parts.registry import Part

if TYPE_CHECKING:
    from pydantic import BaseModel


class DatasetAdapter(Protocol):
    """A module (or an object) that opens data sets of one type."""

    def open_dataset(self, dataset: Any, folder: Path) -> tuple[Path, Path]:
        """Return the image folder and the annotation file, in COCO's format.

        dataset: `specs.OtherDataset` for a type of another package: its `options` are what the
        matrix says, with `specs.File` in place of the files that it names. folder: for what has to
        be written; it may not exist yet.
        """


@dataclass(frozen=True, kw_only=True)
class DatasetType(Part):
    """A type of data set.

    adapter: returns what opens it. spec: the pydantic model of its entry in a matrix, for other
    packages a subclass of `farm.options.DatasetOptions`; None for one that no matrix names.
    """

    adapter: Callable[[], DatasetAdapter]
    spec: type[BaseModel] | None = None

"""The annotation file that mmdet's own evaluation will read as it is: held against COCO's format.

Unlike a sweep's, it is not made safe first. What would crash COCO's tools, or let them hang, is
refused before the work; where they may count wrongly, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.datasets import CocoDataset

from farm.datasets.annotations import read_annotations
from farm.errors import InputError
from farm.progress import say

_NEEDED = ("area", "iscrowd")


def require_evaluable(dataset: Any, metrics: Sequence[str]) -> None:
    """metrics: of `--eval`. Raises InputError."""
    for part in getattr(dataset, "datasets", [dataset]):
        if type(part).evaluate is CocoDataset.evaluate:
            _require_needed(part)
            _require_format(part, "segm" in metrics)


def _require_needed(part: Any) -> None:
    for name in _NEEDED:
        if lost := [key for key, one in part.coco.anns.items() if name not in one]:
            raise InputError(
                f"annotation {lost[0]} has no {name!r}, without which mmdet's evaluation fails"
                f" ({len(lost)} of {len(part.coco.anns)} have none; a sweep fills it in)",
                part.ann_file,
            )
    if 0 in part.coco.anns:
        say(
            f"Note: {part.ann_file}: an annotation has the id 0, which mmdet's evaluation never"
            " counts as found: these figures are too low; number annotations from 1"
        )


def _require_format(part: Any, masks: bool) -> None:
    path = Path(part.ann_file)
    if not path.is_file():
        return  # mmcv reads from other stores too
    try:
        read_annotations(path, mask_classes=part.CLASSES if masks else ())
    except InputError as error:
        if masks:
            raise
        say(f"Note: {error}. mmdet evaluates the file as it is: its figures may be wrong.")

"""Check the annotation file of a test data set, which mmdet's own evaluation reads as it is.

A sweep repairs its copy of such a file first; here the file stays. What would crash COCO's tools,
or let them hang, is an error before any work; what they may count wrongly is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.datasets import CocoDataset

from farm.datasets.annotations import read_annotations
from farm.errors import InputError, shown

log = logging.getLogger(__name__)

_NEEDED = ("area", "iscrowd")


def require_evaluable(dataset: Any, metrics: Sequence[str]) -> None:
    """Check that mmdet can evaluate the data set. metrics: of `--eval`.

    Raises:
        InputError: an annotation would end mmdet's evaluation, or let it hang.
    """
    for part in getattr(dataset, "datasets", [dataset]):
        if type(part).evaluate is CocoDataset.evaluate:
            _require_needed(part)
            _require_computable(part)
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
        log.info(
            f"Note: {part.ann_file}: an annotation has the id 0, which mmdet's evaluation never"
            " counts as found: these figures are too low; number annotations from 1"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and _converts(float, value)


def _converts(kind: type, value: Any) -> bool:
    try:
        kind(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_flag(value: Any) -> bool:
    """Return whether COCO's tools can convert it to a byte."""
    return _converts(int, value) and 0 <= int(value) < 256


_COMPUTABLE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (partial(_converts, float), "a number"),
    "bbox": (_is_box, "[x, y, width, height], four numbers"),
    "area": (_is_number, "a number"),
    "iscrowd": (_is_flag, "0 or 1"),
}
"""What mmdet's evaluation needs of an annotation's values, for some metrics or for all."""


def _require_computable(part: Any) -> None:
    for name, (fits, expected) in _COMPUTABLE.items():
        if wrong := [one for one in part.coco.anns.values() if not fits(one.get(name))]:
            first = wrong[0]
            raise InputError(
                f"annotation {shown(first['id'])}: {name!r} is {shown(first.get(name))}, with"
                f" which mmdet's evaluation fails; expected {expected}"
                f" ({len(wrong)} of {len(part.coco.anns)} are wrong)",
                part.ann_file,
            )


def _require_format(part: Any, masks: bool) -> None:
    path = Path(part.ann_file)
    if not path.is_file():
        return  # mmcv reads from other storage too
    try:
        read_annotations(path, mask_classes=part.CLASSES if masks else ())
    except InputError as error:
        if masks:
            raise
        log.warning(f"Note: {error}. mmdet evaluates the file as it is: its figures may be wrong.")

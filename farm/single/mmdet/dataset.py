"""The config's test data set, opened by mmdet's own code: its annotations and its classes.

A sweep repairs its copy of an annotation file first; here the file stays. What would crash COCO's
tools, or let them hang, is an error before any work; what they may count wrongly is logged.
"""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmcv
from mmdet.datasets import CocoDataset, CustomDataset, build_dataset

from farm.datasets.annotations import read_annotations
from farm.errors import InputError, shown
from farm.sources.mmdet.config import as_names

if TYPE_CHECKING:
    from farm.specs import ModelFacts

log = logging.getLogger(__name__)

_LOADING = ("samples_per_gpu", "workers_per_gpu", "persistent_workers")

_NEEDED = ("area", "iscrowd")


def open_dataset(settings: mmcv.Config, where: str) -> Any:
    """Open `data.test` in test mode: every image, whether it has objects or not.

    Raises:
        InputError: the config has none, or mmdet cannot read its files.
    """
    wanted = (settings.get("data") or {}).get("test")
    if not wanted:
        raise InputError("it has no data set to test on; expected `data.test`", where)
    for one in wanted if isinstance(wanted, list) else [wanted]:
        one["test_mode"] = True
        for name in _LOADING:
            one.pop(name, None)
    try:
        dataset = build_dataset(wanted)
    except Exception as error:  # any data set's own reading of any file
        cause = _cause(error)
        text = " ".join(str(cause).split())[:300]
        raise InputError(
            f"mmdet cannot open its data set ({type(cause).__name__}: {text}); name its files with"
            " --cfg-options data.test.ann_file=... data.test.img_prefix=...",
            where,
        ) from error
    if wrapped := [one for one in _parts(dataset) if not isinstance(one, CustomDataset)]:
        name = type(wrapped[0]).__name__
        raise InputError(f"`data.test` is a {name}, for training; expected a plain data set", where)
    _require_images(dataset, where)
    return dataset


def _cause(error: BaseException) -> BaseException:
    """Return the first error where mmcv, which raises errors anew with only a text, could not."""
    return error.__context__ if isinstance(error, TypeError) and error.__context__ else error


def image_files(dataset: Any) -> list[tuple[Path, str]]:
    """Return path and name of every image, in the data set's order."""
    if hasattr(dataset, "datasets"):
        return [pair for part in dataset.datasets for pair in image_files(part)]
    folder = Path(dataset.img_prefix or "")
    return [(folder / info["filename"], info["filename"]) for info in dataset.data_infos]


def _require_images(dataset: Any, where: str) -> None:
    every = image_files(dataset)
    if not every:
        raise InputError("its data set has no images", where)
    if lost := [path for path, _ in every if not path.is_file()]:
        raise InputError(
            f"{len(lost)} of {len(every)} images are not there, the first is {lost[0]}", where
        )


def require_evaluable(dataset: Any, metrics: Sequence[str]) -> None:
    """Check that mmdet can evaluate the data set. metrics: of `--eval`.

    Raises:
        InputError: an annotation would end mmdet's evaluation, or let it hang.
    """
    for part in _parts(dataset):
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


def log_label_differences(dataset: Any, facts: ModelFacts) -> None:
    """Log where mmdet's evaluation takes, or may take, a label for another class than it is."""
    for part in _parts(dataset):
        evaluated, own = evaluated_names(part), facts.classes
        wrong = [i for i, (a, b) in enumerate(zip(evaluated, own, strict=False)) if a != b]
        if not wrong:
            continue
        first, file = wrong[0], part.ann_file
        if facts.labels_from:
            log.info(
                f"mmdet's evaluation numbers labels by {file} and counts {len(wrong)} of"
                f" {len(own)} as other classes than they are, label {first} as"
                f" {evaluated[first]!r}: it is {own[first]!r} by {facts.labels_from}. `farm run`"
                " evaluates by name"
            )
        else:
            log.info(
                f"mmdet's evaluation and the names in pictures take the order of {file}, label"
                f" {first} as {evaluated[first]!r}; in the config's order it is {own[first]!r}."
                f" The training annotation file says which is right, and {facts.labels_doubt}"
            )


def label_names(dataset: Any, facts: ModelFacts) -> tuple[str, ...]:
    """Return the names to draw: the model's where their order is known, else the evaluated ones."""
    return facts.classes if facts.labels_from else evaluated_names(_parts(dataset)[0])


def evaluated_names(part: Any) -> tuple[str, ...]:
    """Return the names of label 0, 1, ... as the data set's `evaluate` takes them."""
    if hasattr(part, "cat_ids") and hasattr(part, "coco"):  # in COCO's format: the file's order
        return tuple(part.coco.cats[category]["name"] for category in part.cat_ids)
    return as_names(part.CLASSES)


def palette(dataset: Any, names: Sequence[str]) -> Any:
    """Return the data set's colours, which are in the order of its classes, in that of `names`."""
    colours, classes = getattr(dataset, "PALETTE", None), as_names(dataset.CLASSES)
    if not isinstance(colours, list) or len(colours) != len(classes):
        return colours
    if set(names) != set(classes):
        return colours
    return [colours[classes.index(name)] for name in names]


def _parts(dataset: Any) -> list[Any]:
    """Return the data sets that a concatenated one consists of, or the one that it is."""
    return list(getattr(dataset, "datasets", [dataset]))

"""Open the config's test data set with mmdet's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import ConcatDataset, CustomDataset, build_dataset

from farm.errors import InputError

_LOADING = ("samples_per_gpu", "workers_per_gpu", "persistent_workers")


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
    parts = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
    if wrapped := [one for one in parts if not isinstance(one, CustomDataset)]:
        name = type(wrapped[0]).__name__
        raise InputError(f"`data.test` is a {name}, for training; expected a plain data set", where)
    _require_images(dataset, where)
    return dataset


def _cause(error: BaseException) -> BaseException:
    """Return the first error where mmcv, which raises errors anew with only a text, could not."""
    return error.__context__ if isinstance(error, TypeError) and error.__context__ else error


def images(dataset: Any) -> list[tuple[Path, str]]:
    """Return path and name of every image, in the data set's order."""
    if hasattr(dataset, "datasets"):
        return [pair for part in dataset.datasets for pair in images(part)]
    folder = Path(dataset.img_prefix or "")
    return [(folder / info["filename"], info["filename"]) for info in dataset.data_infos]


def _require_images(dataset: Any, where: str) -> None:
    every = images(dataset)
    if not every:
        raise InputError("its data set has no images", where)
    if lost := [path for path, _ in every if not path.is_file()]:
        raise InputError(
            f"{len(lost)} of {len(every)} images are not there, the first is {lost[0]}", where
        )

"""The config's test data set, opened, evaluated and formatted by mmdet's own code."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
import numpy as np
from mmdet.datasets import CocoDataset, VOCDataset, build_dataset

from farm.errors import FarmError, InputError, nearest

_LOADING = ("samples_per_gpu", "workers_per_gpu", "persistent_workers")
_OF_TRAINING = (
    "interval",
    "tmpdir",
    "start",
    "gpu_collect",
    "save_best",
    "rule",
    "dynamic_intervals",
)
"""What a config's `evaluation` holds for the hook that evaluates while training."""

_METRICS = {
    CocoDataset.evaluate: ("bbox", "segm", "proposal", "proposal_fast"),
    VOCDataset.evaluate: ("mAP", "recall"),
}


def open_dataset(settings: mmcv.Config, where: str) -> Any:
    """`data.test`, in test mode: every image, whether it has objects or not.

    Raises:
        InputError: there is none, or its files are not there or not what mmdet reads.
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
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"mmdet cannot open its data set ({type(error).__name__}: {text}); name its files with"
            " --cfg-options data.test.ann_file=... data.test.img_prefix=...",
            where,
        ) from error
    _require_images(dataset, where)
    return dataset


def images(dataset: Any) -> list[tuple[Path, str]]:
    """Path and name of every image, in the data set's order."""
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


def require_metrics(dataset: Any, metrics: Sequence[str]) -> None:
    """Raises InputError for what the data set's `evaluate` would only refuse after the work."""
    known = _METRICS.get(type(dataset).evaluate)
    if known is None:
        return  # a data set of its own kind, whose metrics only it knows
    name = type(dataset).__name__
    for metric in metrics:
        if metric not in known:
            raise InputError(f"{name} has no metric {metric!r}{nearest(metric, known)}", "--eval")
    if known == _METRICS[VOCDataset.evaluate] and len(metrics) > 1:
        raise InputError(f"{name} takes one metric at a time", "--eval")


def evaluate_options(
    dataset: Any, metrics: Sequence[str], settings: mmcv.Config, options: dict[str, Any]
) -> dict[str, Any]:
    """What `evaluate` is called with. Raises InputError for options that it does not know."""
    wanted = {**settings.get("evaluation", {}), "metric": list(metrics), **options}
    for name in _OF_TRAINING:
        wanted.pop(name, None)
    return _fitting(dataset.evaluate, wanted)


def format_options(dataset: Any, options: dict[str, Any]) -> dict[str, Any]:
    """As `evaluate_options`, of `format_results`."""
    return _fitting(dataset.format_results, options)


def _fitting(method: Any, options: dict[str, Any]) -> dict[str, Any]:
    try:
        inspect.signature(method).bind([], **options)
    except TypeError as error:
        raise InputError(f"{method.__qualname__}: {error}", "--eval-options") from None
    return options


def told(method: Any, results: list[Any], options: dict[str, Any]) -> Any:
    """What `evaluate` or `format_results` says.

    Raises:
        InputError: values of options that it refuses.
        FarmError: it cannot read the results.
    """
    try:
        return method(results, **options)
    except (KeyError, AssertionError) as error:
        message = f"{method.__qualname__} refuses {options}: {error}"
        raise InputError(message, "--eval-options") from error
    except Exception as error:  # any data set's own code
        message = f"{method.__qualname__} fails: {type(error).__name__}: {error}"
        raise FarmError(message) from error


def as_evaluated(dataset: Any, metrics: Sequence[str], results: list[Any]) -> list[Any]:
    """The results as this data set's `evaluate` can read them.

    Those of Pascal VOC know no masks, and for recall want the boxes of all classes together.
    """
    if type(dataset).evaluate is not VOCDataset.evaluate:
        return results
    boxes = [one[0] if isinstance(one, tuple) else one for one in results]
    return [np.vstack(one) for one in boxes] if "recall" in metrics else boxes

"""Results evaluated and formatted by the data set's own code in mmdet."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
import numpy as np
import numpy.typing as npt
from mmdet.core.evaluation import recall
from mmdet.datasets import CocoDataset, ConcatDataset, CustomDataset, VOCDataset

from farm.errors import FarmError, InputError, nearest

log = logging.getLogger(__name__)

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
    CocoDataset.evaluate: ("bbox", "segm", "proposal"),
    VOCDataset.evaluate: ("mAP", "recall"),
    CustomDataset.evaluate: ("mAP", "recall"),
}
"""Without `proposal_fast`: it reads the boxes of an RPN alone, not a detector's by class."""


def require_metrics(dataset: Any, metrics: Sequence[str]) -> None:
    """Raises InputError for what the data set's `evaluate` would only refuse after the work."""
    plain = _plain(dataset)
    known = _METRICS.get(type(plain).evaluate)
    if known is None:
        return  # a data set of its own kind, whose metrics only it knows
    name = type(plain).__name__
    for metric in metrics:
        if metric not in known:
            raise InputError(f"{name} has no metric {metric!r}{nearest(metric, known)}", "--eval")
    if _as_voc(plain) and len(metrics) > 1:
        raise InputError(f"{name} takes one metric at a time", "--eval")


def _plain(dataset: Any) -> Any:
    """The first of several that are tested together: they are of one kind."""
    return dataset.datasets[0] if isinstance(dataset, ConcatDataset) else dataset


def _as_voc(plain: Any) -> bool:
    return type(plain).evaluate in (VOCDataset.evaluate, CustomDataset.evaluate)


def evaluate_options(
    dataset: Any, metrics: Sequence[str], settings: mmcv.Config, options: dict[str, Any]
) -> dict[str, Any]:
    """What `evaluate` is called with. Raises InputError for options that it does not know."""
    wanted = {**settings.get("evaluation", {}), "metric": list(metrics), **options}
    for name in _OF_TRAINING:
        wanted.pop(name, None)
    if wanted.get("iou_thrs") is not None:
        wanted["iou_thrs"] = _numbers("iou_thrs", wanted["iou_thrs"])
    return _fitting(_plain(dataset).evaluate, wanted)


def format_options(dataset: Any, options: dict[str, Any]) -> dict[str, Any]:
    """As `evaluate_options`, of `format_results`."""
    if not hasattr(dataset, "format_results"):
        name = type(dataset).__name__
        raise InputError(f"{name} cannot; give one data set at a time", "--format-only")
    return _fitting(dataset.format_results, options)


def warn_of_nothing_kept(dataset: Any, options: dict[str, Any]) -> None:
    """Says before the work where mmdet's `format_results` leaves no file."""
    if type(dataset).format_results is CustomDataset.format_results:
        log.warning(
            f"{type(dataset).__name__} has no format of its own: --format-only writes nothing"
        )
    elif isinstance(dataset, CocoDataset) and "jsonfile_prefix" not in options:
        log.info(
            "--format-only writes into a temporary folder, which goes at the end; keep its files"
            " with --eval-options jsonfile_prefix=PATH"
        )


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    """As an array, which pycocotools takes it for."""
    try:
        return np.atleast_1d(np.asarray(values, float))
    except (TypeError, ValueError):
        raise InputError(f"{name}={values}: expected numbers", "--eval-options") from None


def _fitting(method: Any, options: dict[str, Any]) -> dict[str, Any]:
    try:
        inspect.signature(method).bind([], **options)
    except TypeError as error:
        raise InputError(f"{method.__qualname__}: {error}", "--eval-options") from None
    return options


def told(method: Any, results: list[Any], options: dict[str, Any], asked: str) -> Any:
    """What `evaluate` or `format_results` says. asked: the command's option that wants it so.

    Raises:
        InputError: values of options that it refuses.
        FarmError: it cannot read the results.
    """
    try:
        with _ragged_arrays():
            return method(results, **options)
    except (KeyError, AssertionError) as error:
        message = f"{method.__qualname__} refuses {options}: {error}"
        raise InputError(message, asked) from error
    except Exception as error:  # any data set's own code
        message = f"{method.__qualname__} fails: {type(error).__name__}: {error}"
        raise FarmError(message) from error


def as_evaluated(dataset: Any, metrics: Sequence[str], results: list[Any]) -> list[Any]:
    """The results as this data set's `evaluate` can read them.

    Those of Pascal VOC know no masks, and for recall want the boxes of all classes together.
    """
    if not _as_voc(_plain(dataset)):
        return results
    boxes = [one[0] if isinstance(one, tuple) else one for one in results]
    return [np.vstack(one) for one in boxes] if "recall" in metrics else boxes


@contextmanager
def _ragged_arrays() -> Iterator[None]:
    """mmdet's recalls make an array of arrays of several shapes, as numpy did before 1.24."""

    class Numpy:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        def array(self, values: Any, **options: Any) -> Any:
            try:
                return np.array(values, **options)
            except ValueError:
                ragged = np.empty(len(values), object)
                for i, value in enumerate(values):
                    ragged[i] = value
                return ragged

    recall.np = Numpy()
    try:
        yield
    finally:
        recall.np = np

"""Evaluate and format results with the data set's own code in mmdet, in the form that it takes."""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import inspect
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import mmcv
import numpy as np
import numpy.typing as npt
from mmdet.core.evaluation import mean_ap, recall
from mmdet.datasets import CocoDataset, ConcatDataset, CustomDataset, VOCDataset

from farm.errors import FarmError, InputError, nearest

if TYPE_CHECKING:
    from farm.detections import Detections

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
"""Keys of a config's `evaluation` that only the hook which evaluates during training takes."""

_METRICS = {
    CocoDataset.evaluate: ("bbox", "segm", "proposal"),
    VOCDataset.evaluate: ("mAP", "recall"),
    CustomDataset.evaluate: ("mAP", "recall"),
}
"""`proposal_fast` is not among them: it reads the boxes of an RPN, not a detector's by class."""


def require_metrics(dataset: Any, metrics: Sequence[str]) -> None:
    """Check metrics that the data set's `evaluate` would refuse only after the work.

    Raises:
        InputError: the data set has no such metric, or takes one at a time.
    """
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
    """Return the first of data sets that are tested together: they are of one kind."""
    return dataset.datasets[0] if isinstance(dataset, ConcatDataset) else dataset


def _as_voc(plain: Any) -> bool:
    return type(plain).evaluate in (VOCDataset.evaluate, CustomDataset.evaluate)


def evaluate_options(
    dataset: Any, metrics: Sequence[str], settings: mmcv.Config, options: dict[str, Any]
) -> dict[str, Any]:
    """Return what `evaluate` is called with.

    Raises:
        InputError: it has no such option.
    """
    wanted = {**settings.get("evaluation", {}), "metric": list(metrics), **options}
    for name in _OF_TRAINING:
        wanted.pop(name, None)
    if wanted.get("iou_thrs") is not None:
        wanted["iou_thrs"] = _numbers("iou_thrs", wanted["iou_thrs"])
    return _accepted(_plain(dataset).evaluate, wanted)


def format_options(dataset: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return what `format_results` is called with.

    Raises:
        InputError: it has no such option, or the data set cannot format results.
    """
    if not hasattr(dataset, "format_results"):
        name = type(dataset).__name__
        raise InputError(f"{name} cannot; give one data set at a time", "--format-only")
    return _accepted(dataset.format_results, options)


def warn_if_nothing_is_kept(dataset: Any, options: dict[str, Any]) -> None:
    """Log before the work where mmdet's `format_results` leaves no file."""
    if type(dataset).format_results is CustomDataset.format_results:
        log.warning(
            f"{type(dataset).__name__} has no format of its own: --format-only writes nothing"
        )
    elif isinstance(dataset, CocoDataset) and "jsonfile_prefix" not in options:
        log.info(
            "--format-only writes into a temporary folder, which is deleted at the end; keep its"
            " files with --eval-options jsonfile_prefix=PATH"
        )


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    """Return an array, which pycocotools expects."""
    try:
        return np.atleast_1d(np.asarray(values, float))
    except (TypeError, ValueError):
        raise InputError(f"{name}={values}: expected numbers", "--eval-options") from None


def _accepted(method: Any, options: dict[str, Any]) -> dict[str, Any]:
    try:
        inspect.signature(method).bind([], **options)
    except TypeError as error:
        raise InputError(f"{method.__qualname__}: {error}", "--eval-options") from None
    return options


def call(method: Any, results: list[Any], options: dict[str, Any], option: str) -> Any:
    """Call the data set's `evaluate` or `format_results`. option: the command's, for errors.

    Raises:
        InputError: the method refuses values of the options.
        FarmError: it fails otherwise.
    """
    try:
        with _ragged_arrays(), _workers_that_end():
            return method(results, **options)
    except (KeyError, AssertionError) as error:
        message = f"{method.__qualname__} refuses {options}: {error}"
        raise InputError(message, option) from error
    except Exception as error:  # any data set's own code
        message = f"{method.__qualname__} fails: {type(error).__name__}: {error}"
        raise FarmError(message) from error


def for_evaluate(dataset: Any, metrics: Sequence[str], results: list[Any]) -> list[Any]:
    """Return the results as this data set's `evaluate` can read them.

    Data sets like Pascal VOC take no masks, and for recall the boxes of all classes together.
    """
    if not _as_voc(_plain(dataset)):
        return results
    boxes = [one[0] if isinstance(one, tuple) else one for one in results]
    return [np.vstack(one) for one in boxes] if "recall" in metrics else boxes


@contextmanager
def _ragged_arrays() -> Iterator[None]:
    """Let mmdet's recall make an array of arrays of several shapes, as numpy did before 1.24."""

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


@contextmanager
def _workers_that_end() -> Iterator[None]:
    """Let SIGTERM end the worker processes of mmdet's mAP, which its pool relies on.

    They are forks with the farm's own handler, which Python does not run in a process that has
    just begun to wait for a lock: the pool would wait for such a worker for ever.
    """
    pool = mean_ap.Pool
    mean_ap.Pool = partial(
        pool, initializer=signal.signal, initargs=(signal.SIGTERM, signal.SIG_DFL)
    )
    try:
        yield
    finally:
        mean_ap.Pool = pool


def as_mmdet(found: Detections, classes: int) -> Any:
    """Return one image's result: an array [k, 5] (x1 y1 x2 y2 score) for each class, best first.

    With masks, a pair of these and, for each class, its run-length encoded masks; where masks
    have scores of their own, a pair of masks and scores in their place.
    """
    rows = np.hstack([found.boxes, found.scores[:, None]]).astype(np.float32)
    of_class = [np.flatnonzero(found.labels == label) for label in range(classes)]
    boxes = [rows[indices] for indices in of_class]
    if found.rles is None:
        return boxes
    masks = [[pycocotools_rle(found.rles[i]) for i in indices] for indices in of_class]
    if found.mask_scores is None:
        return boxes, masks
    return boxes, (masks, [found.mask_scores[indices] for indices in of_class])


def pycocotools_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length encoded mask in pycocotools' form, with bytes: JSON alone needs text."""
    counts = rle["counts"]
    coded = counts.encode() if isinstance(counts, str) else counts
    return {"size": list(rle["size"]), "counts": coded}

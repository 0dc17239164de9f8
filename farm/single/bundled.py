"""A folder of `farm bundle` as a model of `farm test`.

The farm's own copy of `detector.py` runs it: no code is run that a folder from elsewhere brings.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import InputError
from farm.specs import ModelFacts

if TYPE_CHECKING:
    from farm.bundle.detector import Detections as Found
    from farm.detections import Detections
    from farm.single.runners import Runner

log = logging.getLogger(__name__)


def is_bundle(model: str) -> bool:
    """Return whether it is the folder of a bundle."""
    return (Path(model) / "bundle.json").is_file()


def weights(model: str) -> str:
    """Return the path of the file that has the model's weights: of a bundle its ONNX file.

    Raises:
        InputError: the bundle was changed.
    """
    return str(Path(model) / _content(model)["onnx"]["file"]) if is_bundle(model) else model


def runtime(model: str) -> str:
    """Return the runtime of a bundle's engine. Raises InputError as `weights`."""
    return str(_content(model)["engine"]["runtime"])


def _content(model: str) -> dict[str, Any]:
    from farm.bundle.detector import read_bundle

    with _as_input_error():
        return read_bundle(Path(model))


@contextmanager
def _as_input_error() -> Iterator[None]:
    from farm.bundle.detector import BundleError

    try:
        yield
    except BundleError as error:
        raise InputError(str(error)) from error


def runner(folder: Path, threads: int) -> Runner:
    """Return the bundle's detector as a runner. It warns where its engine does not fit here.

    Raises:
        InputError: the bundle was changed, or cannot be opened.
    """
    from farm.bundle.detector import Detector
    from farm.single.runners import Runner

    with _as_input_error(), warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        detector = Detector(folder, threads)
    for one in noticed:
        log.warning(f"{folder}: {one.message}")

    def run(images: Iterable[tuple[Path, str]]) -> Iterator[Detections]:
        for path, _ in images:
            with _as_input_error():
                found = detector.detect(path)
            yield _with_rles(found)

    after = detector.bundle["postprocess"]
    return Runner(ModelFacts(tuple(detector.labels), after["masks"], ""), run)


def _with_rles(found: Found) -> Detections:
    import numpy as np
    from pycocotools import mask as coco_mask

    from farm.detections import Detections

    rles = None
    if found.masks is not None:
        encoded = (coco_mask.encode(np.asfortranarray(one, np.uint8)) for one in found.masks)
        rles = tuple({"size": one["size"], "counts": one["counts"].decode()} for one in encoded)
    return Detections(
        found.boxes, found.scores, found.labels, rles=rles, mask_scores=found.mask_scores
    )

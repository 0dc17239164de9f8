"""The sample of a bundle: an image, and the boxes that its engine finds there."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.bundle.detector import BundleError, Detections, Detector, prepare, read_image
from farm.catalog import runtime_of
from farm.config.schema import VerifySpec
from farm.datasets import open_dataset
from farm.datasets.prepared import Prepared
from farm.detections.convert import to_original
from farm.errors import InputError, StepFailed
from farm.specs import ShapesDataset
from farm.stages.inference import decoding_of, detect, usable_cores

if TYPE_CHECKING:
    from farm.bundle.cells import FinishedCell
    from farm.cli.results import Results
    from farm.detections import Detections as OwnDetections
    from farm.specs import Dataset

_AMONG = 16
"""The sample is the image with most objects among so many first ones."""

_MOST_PIXELS, _MOST_SCORE = 0.01, 1e-4
"""How far boxes of `detector.py` may be from the farm's own, of the same engine."""


@dataclass(frozen=True)
class Sample:
    """An image file; index: its place in the data set, None for an image from elsewhere."""

    path: Path
    index: int | None = None


@contextmanager
def chosen(cell: FinishedCell, results: Results, option: str | None) -> Iterator[Sample]:
    """Yield the sample: the image of the option, else one of the cell's data set.

    Raises:
        InputError: there is no such image, or those of the data set are not here any more.
    """
    if option is not None:
        if not Path(option).is_file():
            raise InputError("no such file", f"--sample {option}")
        yield Sample(Path(option))
        return
    prepared = Prepared(cell.artifact("prepare"))
    index = _fullest(prepared)
    with tempfile.TemporaryDirectory() as drawn:
        try:
            images, _ = open_dataset(_dataset(cell, results), Path(drawn))
        except InputError as error:
            raise InputError(f"{error}; give a sample image with --sample") from None
        path = images / prepared.metas[index].file_name
        if not path.is_file():
            raise InputError("not there any more; give a sample image with --sample", str(path))
        yield Sample(path, index)


def _fullest(prepared: Prepared) -> int:
    """Return the index of the image with most objects."""
    document = json.loads(prepared.annotations.read_text())
    objects = Counter(one["image_id"] for one in document["annotations"])
    first = prepared.metas[:_AMONG]
    return max(range(len(first)), key=lambda i: objects[first[i].image_id])


def _dataset(cell: FinishedCell, results: Results) -> Dataset:
    """Return the data set that the cell was evaluated on. Raises InputError."""
    kept = cell.records["prepare"].inputs["dataset"]
    if kept["type"] == "synthetic":
        return ShapesDataset(kept["count"], kept["seed"], kept["size"])
    from farm.plan.resolve import ResolvedInputs

    return ResolvedInputs(results.kept_matrix(cell.row["sweep"])).dataset_of(cell.facts)


def expected(cell: FinishedCell, folder: Path, bundle: dict[str, Any], sample: Sample) -> Any:
    """Put the sample image into the bundle, and return its field `sample` of `bundle.json`.

    folder: with all other files of the bundle. The boxes are those of `detector.py`; of an image of
    the data set it is required that the farm finds the same. Where the engine does not run here (a
    TensorRT one without its GPU), they are those that it found in the sweep, as far as these were
    kept, and else those of the ONNX file.

    Raises:
        InputError: the runtime is not installed here, or the image is none.
        StepFailed: `detector.py` finds other boxes than the farm.
    """
    name = f"sample{sample.path.suffix.lower()}"
    shutil.copyfile(sample.path, folder / name)
    try:
        read_image(folder / name, bundle["preprocess"]["decode"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = Detector(folder)
        found, found_by = detector.detect(folder / name), detector.runs
    except BundleError as error:
        raise InputError(str(error), cell.row["cell"]) from error
    if sample.index is not None:
        _require_prepared_alike(cell, folder / name, bundle, sample.index)
        if found_by == bundle["engine"]["file"]:
            _require_same(found, _own(cell, sample.index), name)
        elif kept := found_in_the_sweep(cell, sample.index):
            found, found_by = kept, bundle["engine"]["file"]
    tolerance = VerifySpec().of(cell.options.precision)
    shown = np.flatnonzero(found.scores >= tolerance.min_score)
    if not len(shown):
        raise InputError(
            f"the engine finds no box of a score of at least {tolerance.min_score} in it, so that a"
            " check of the bundle could find no difference; give another image with --sample",
            str(sample.path),
        )
    return {
        "image": name,
        "found_by": found_by,
        "boxes": found.boxes[shown].astype(float).round(4).tolist(),
        "scores": found.scores[shown].astype(float).round(6).tolist(),
        "names": [found.names[i] for i in shown],
        "limits": {
            "min_score": tolerance.min_score,
            "box_px": tolerance.max_box_diff_px,
            "score": tolerance.max_score_diff,
        },
    }


def _require_prepared_alike(
    cell: FinishedCell, image: Path, bundle: dict[str, Any], index: int
) -> None:
    own = Prepared(cell.artifact("prepare")).image(index)
    pixels, _ = prepare(image, bundle)
    if pixels.shape != own.shape or not np.array_equal(pixels, own):
        raise InputError(
            f"{image.name}: it is not as it was in the sweep, or another OpenCV is installed now;"
            " run the sweep again, or give a sample image with --sample"
        )


def _own(cell: FinishedCell, index: int) -> Detections:
    """Return what the farm finds in an image of the data set with the cell's engine."""
    prepared = Prepared(cell.artifact("prepare")).subset([index])
    batch = cell.options.shape.min.n
    images = np.repeat(prepared.image(0)[None], batch, 0)
    runtime = runtime_of(cell.runtime)
    session = runtime.open_engine(cell.engine, cell.options, usable_cores())
    clip = cell.records["evaluate"].inputs["clip"]
    try:
        (found,) = detect(session, [(images, prepared.metas)], decoding_of(cell.facts, clip))
    finally:
        session.close()
    return _named(found, cell)


def found_in_the_sweep(cell: FinishedCell, index: int) -> Detections | None:
    """Return the engine's boxes of an image as `verify` kept them, in pixels of the image.

    None where there are none, or where a box is the one around its mask: the program puts it around
    the mask in the size of the image, and `verify` keeps masks in that of the network's input.
    """
    found = cell.kept_detections(index)
    if found is None or (cell.facts.masks and cell.facts.mask_frame in ("segments", "queries")):
        return None
    meta = Prepared(cell.artifact("prepare")).metas[index]
    clip = cell.records["evaluate"].inputs["clip"]
    return _named(to_original(found, meta, clip, cell.facts.mask_threshold), cell)


def _named(found: OwnDetections, cell: FinishedCell) -> Detections:
    names = [cell.facts.classes[label] for label in found.labels]
    return Detections(found.boxes, found.scores, names, found.labels)


def _require_same(found: Detections, own: Detections, image: str) -> None:
    """Raise StepFailed where two sets of detections of one engine differ."""
    same = found.boxes.shape == own.boxes.shape and (
        np.array_equal(found.labels, own.labels)
        and np.allclose(found.boxes, own.boxes, rtol=0, atol=_MOST_PIXELS)
        and np.allclose(found.scores, own.scores, rtol=0, atol=_MOST_SCORE)
    )
    if not same:
        raise StepFailed(
            f"detector.py finds {len(found.scores)} boxes in {image} and the farm"
            f" {len(own.scores)}, or others: the bundle is not written, since it would be another"
            " detector"
        )

"""MMDetection's own form of annotations, which `CustomDataset` reads: a list in JSON or a pickle.

Each entry has `filename`, `width`, `height` and `ann` with `bboxes` [n, 4] (x1 y1 x2 y2), `labels`
[n], and perhaps `bboxes_ignore`, `labels_ignore`. A pickle may hold numpy's arrays and plain values
alone: others could run code.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.mean_ap import Rule
from farm.errors import InputError, shown
from farm.failures import in_one_line

if TYPE_CHECKING:
    from farm import specs

_ALLOWED = {
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy": {"ndarray", "dtype"},
    "collections": {"OrderedDict"},
    "_codecs": {"encode"},
}
"""What a pickle may name, by module: what numpy's arrays are made of."""


def open_dataset(dataset: specs.OtherDataset, folder: Path) -> tuple[Path, Path]:
    """Return the image folder and the annotation file; see `datasets.base.DatasetAdapter`.

    Raises:
        InputError: as `document`.
    """
    options = dict(dataset.options)
    path = folder / "annotations.json"
    folder.mkdir(parents=True, exist_ok=True)
    found = document(Path(options["annotations"].path), tuple(options["classes"]))
    path.write_text(json.dumps(found))
    return Path(options["images"].path), path


def document(path: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Return the annotations in COCO's format, with the rule of their mAP.

    classes: of label 0, 1, ... Boxes to be ignored are crowds.

    Raises:
        InputError: the file is not in this form; names the first faulty entry.
    """
    entries = _read(path)
    if not isinstance(entries, list) or not entries:
        raise InputError("expected a list of images, as CustomDataset's", str(path))
    images, annotations = [], list[dict[str, Any]]()
    for number, entry in enumerate(entries, start=1):
        try:
            images.append(_image(number, entry))
            annotations += _objects(number, entry, len(classes))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"entry {number} is not as CustomDataset's: {in_one_line(error)}"
            raise InputError(reason, str(path)) from None
    for number, one in enumerate(annotations, start=1):
        one["id"] = number
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
        "mean_ap": Rule().as_json(),
    }


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return super().find_class(module, name)


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if path.suffix in (".pkl", ".pickle"):
            return _Plain(io.BytesIO(content)).load()
        return json.loads(content)
    except Exception as error:  # a damaged pickle raises anything
        raise InputError(
            f"not readable ({in_one_line(error)}); expected a list of images in JSON, or in a"
            " pickle of plain values and numpy's arrays",
            str(path),
        ) from None


def _image(number: int, entry: Any) -> dict[str, Any]:
    size = {side: int(entry[side]) for side in ("height", "width")}
    return {"id": number, "file_name": str(entry["filename"]), **size}


def _objects(image: int, entry: Any, classes: int) -> Iterator[dict[str, Any]]:
    """The objects of an image. Raises ValueError for a box or a label that is none."""
    for crowd, end in enumerate(("", "_ignore")):
        boxes = np.asarray(entry["ann"].get(f"bboxes{end}", []), np.float64).reshape(-1, 4)
        labels = np.asarray(entry["ann"].get(f"labels{end}", []), np.int64)
        if crowd and not len(labels):
            continue  # MMDetection, too, ignores boxes of no class nowhere
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if not 0 <= label < classes:
                raise ValueError(f"label {shown(label)} of {classes} classes")
            box = [x1, y1, x2 - x1, y2 - y1]
            area = max(box[2] * box[3], 0.0)
            yield {"image_id": image, "category_id": label + 1, "bbox": box, "area": area,
                   "iscrowd": crowd}  # fmt: skip

"""Data sets in Pascal VOC's form: a folder with an XML file for each image.

They are read as MMDetection reads them: coordinates begin at 0 (one less than in the file), and a
`difficult` object is neither to be found nor wrong to find.
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.datasets.mean_ap import Rule
from farm.errors import InputError, shown

if TYPE_CHECKING:
    from farm import specs

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""Pascal VOC's own."""

_POINTS = {"area": 0, "11-point": 11}
"""Of `Rule`, by what a matrix calls them."""

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Folder:
    """Where the files of a data set are. images, annotations: folders in `root`. split: a file of
    names of images, one a line; None for all annotation files. classes: of the categories; () for
    those that the files have. points: as of `Rule`. inclusive: boxes end with their last pixel."""

    root: Path
    images: str = "JPEGImages"
    annotations: str = "Annotations"
    split: Path | None = None
    classes: tuple[str, ...] = ()
    points: int | None = None
    inclusive: bool = True

    @property
    def rule(self) -> Rule:
        """The rule of the data set's mAP: of 11 points for VOC2007, as MMDetection has it."""
        points = (11 if "VOC2007" in str(self.root) else 0) if self.points is None else self.points
        return Rule(points, offset=int(self.inclusive))


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[int, int, int, int]
    difficult: bool


def open_dataset(dataset: specs.OtherDataset, folder: Path) -> tuple[Path, Path]:
    """Return the image folder and the annotation file; see `datasets.base.DatasetAdapter`.

    Raises:
        InputError: as `document`.
    """
    options = dict(dataset.options)
    root = Path(options["root"].path)
    found = Folder(
        root,
        images=options.get("images", Folder.images),
        annotations=options.get("annotations", Folder.annotations),
        split=split_file(root, options.get("split")),
        classes=tuple(options.get("classes") or ()),
        points=_POINTS.get(options.get("map", "")),
        inclusive=options.get("inclusive", True),
    )
    path = folder / "annotations.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(found)))
    return root, path


def split_file(root: Path, split: str | None) -> Path | None:
    """Return the file of a split: `test` is `ImageSets/Main/test.txt`; a path is one in `root`."""
    if split is None:
        return None
    named = split if split.endswith(".txt") else f"ImageSets/Main/{split}.txt"
    return root / named


def document(folder: Folder) -> dict[str, Any]:
    """Return the annotations in COCO's format, with the rule of their mAP.

    Names of images are relative to the root. Difficult objects are crowds, which COCO's figures
    leave out in the same way.

    Raises:
        InputError: a file is missing, or is not in Pascal VOC's form; names it.
    """
    names = _names(folder)
    files = _image_files(folder.root / folder.images)
    objects = [list(_objects(folder.root / folder.annotations / f"{name}.xml")) for name in names]
    classes = folder.classes or _classes(one.name for own in objects for one in own)
    ids = {name: number for number, name in enumerate(classes, start=1)}
    images, annotations = [], list[dict[str, Any]]()
    for number, (name, own) in enumerate(zip(names, objects, strict=True), start=1):
        file = f"{folder.images}/{files.get(name, f'{name}.jpg')}"
        images.append({"id": number, "file_name": file.removeprefix("./")})
        kept = (one for one in own if one.name in ids)
        annotations += (_entry(number, ids[one.name], one) for one in kept)
    for number, one in enumerate(annotations, start=1):
        one["id"] = number
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "mean_ap": folder.rule.as_json(),
    }


def _names(folder: Folder) -> list[str]:
    """The images of the split, as files are named without their suffix. Raises InputError."""
    if folder.split:
        try:
            lines = folder.split.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            where = folder.root / "ImageSets" / "Main"
            there = ", ".join(sorted(one.stem for one in where.glob("*.txt"))[:20]) or "none"
            raise InputError(
                f"no readable list of images ({error}); splits there: {there}", str(folder.split)
            ) from None
        # In lists of one class, the name is followed by 1, 0 or -1.
        names = [re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in lines if line.strip()]
    else:
        names = sorted(one.stem for one in (folder.root / folder.annotations).glob("*.xml"))
    if not names:
        what = str(folder.split or folder.root / folder.annotations)
        raise InputError("it names no image; expected annotation files (.xml) of images", what)
    return names


def _image_files(folder: Path) -> dict[str, str]:
    """The names of the image files by their names without suffix."""
    if not folder.is_dir():
        raise InputError("there is no such folder of images", str(folder))
    found = (one.name for one in folder.iterdir() if one.suffix.lower() in _IMAGES)
    return {Path(name).stem: name for name in sorted(found, reverse=True)}


def _classes(names: Iterable[str]) -> tuple[str, ...]:
    """Pascal VOC's classes if these are some of them, else these in alphabetical order."""
    found = set(names)
    return CLASSES if found and found <= set(CLASSES) else tuple(sorted(found))


def _objects(path: Path) -> Iterator[_Object]:
    try:
        tree = ET.parse(path).getroot()
    except FileNotFoundError:
        raise InputError("there is no such annotation file", str(path)) from None
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"not readable XML: {error}", str(path)) from None
    for one in tree.findall("object"):
        name = (one.findtext("name") or "").strip()
        box = one.find("bndbox")
        if not name or box is None:
            raise InputError("an object has no `name` or no `bndbox`", str(path))
        yield _Object(name, _corners(box, path), (one.findtext("difficult") or "0").strip() == "1")


def _corners(box: ET.Element, path: Path) -> tuple[int, int, int, int]:
    """xmin, ymin, xmax, ymax from 0 on. Raises InputError."""
    values = [_number(box.findtext(side), path) for side in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = values
    if x2 < x1 or y2 < y1:
        raise InputError(f"a box ends before it begins: {x1, y1, x2, y2}", str(path))
    return x1 - 1, y1 - 1, x2 - 1, y2 - 1


def _number(text: str | None, path: Path) -> int:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < 1e7:  # NaN is not, either
        raise InputError(f"a box has {shown(text)}, expected a number of pixels", str(path))
    return int(value)


def _entry(image: int, category: int, one: _Object) -> dict[str, Any]:
    x1, y1, x2, y2 = one.box
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(one.difficult),
    }


def recognised(root: Path) -> Sequence[str] | None:
    """Return the names of the splits of a folder in Pascal VOC's form; None for another folder."""
    if not (root / Folder.annotations).is_dir() or not (root / Folder.images).is_dir():
        return None
    return sorted(one.stem for one in (root / "ImageSets" / "Main").glob("*.txt"))

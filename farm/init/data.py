"""Recognises a data set by its files, and writes its entry of a matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.datasets import coco_format, voc
from farm.errors import InputError, shown
from farm.files import expanded

if TYPE_CHECKING:
    from farm import specs

_FIRST = 200
"""Images that a first matrix uses of a larger data set."""


Entry = Mapping[str, str | Path | int]


@dataclass(frozen=True)
class Data:
    """A data set. entry: as a matrix names it, with absolute paths. images: how many it has.
    classes: the names of its categories. text: what it is, in a few words."""

    entry: Entry
    images: int
    classes: tuple[str, ...]
    text: str

    @property
    def limit(self) -> int | None:
        """How many images a first matrix uses; None for all."""
        return _FIRST if self.images > _FIRST else None


def recognised(name: str, images: str | None) -> Data:
    """Return the data set that a file or a folder is.

    images: the folder of its images; None to look for it.

    Raises:
        InputError: it is none that the farm knows, or its images are not found.
    """
    path = expanded(name, Path.cwd()).resolve()
    folder = expanded(images, Path.cwd()).resolve() if images else None
    if folder and not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected the folder of images", "--images")
    if path.is_file():
        return _coco(path, folder)
    if not path.is_dir():
        raise InputError(f"there is no {path}; expected {_EXPECTED}", "--data")
    if (splits := voc.recognised(path)) is not None:
        return _voc(path, _evaluated(splits))
    return _coco(_only_file(path), folder)


_EXPECTED = (
    "an annotation file in COCO's format (.json), a folder that has one, or a folder in Pascal"
    " VOC's form (Annotations, JPEGImages)"
)


def of_config(model: specs.Model) -> Data:
    """Return the data set that a config's `data.test` names.

    Raises:
        InputError: the config names none, or one that the farm cannot read.
    """
    from farm.datasets import custom
    from farm.sources.mmdet.data import evaluated

    entry = evaluated.entry(model)
    if entry["type"] == "coco":
        found = _coco(Path(entry["annotations"]), Path(entry["images"]))
    elif entry["type"] == "voc":
        own = {name: entry[name] for name in ("images", "annotations")}
        found = _voc(Path(entry["root"]), entry["split"], classes=tuple(entry["classes"]), **own)
    else:
        listed = custom.document(Path(entry["annotations"]), entry["classes"])
        found = Data({}, len(listed["images"]), tuple(entry["classes"]), "")
    text = f"The {found.images} images of the config's own test data"
    return replace(found, entry={"type": "config"}, text=text)


def _voc(root: Path, split: str | None, **own: Any) -> Data:
    """The data set of a folder. own: other fields of `voc.Folder`."""
    folder = voc.Folder(root, split=voc.split_file(root, split), **own)
    document = voc.document(folder)
    first = root / document["images"][0]["file_name"]
    if not first.is_file():
        raise InputError(f"the first image, {first}, is not there", "--data")
    names = tuple(one["name"] for one in document["categories"])
    entry: Entry = {"type": "voc", "root": root, **({"split": split} if split else {})}
    count = len(document["images"])
    return Data(entry, count, names, f"{count} images in Pascal VOC's form")


def _evaluated(splits: Sequence[str]) -> str | None:
    """The split to evaluate on, if the data set has one that is called so."""
    return next((one for one in ("test", "val") if one in splits), None)


def _only_file(folder: Path) -> Path:
    """The annotation file of a folder, or of its folder `annotations`. Raises InputError."""
    places = (folder, folder / "annotations")
    found = sorted(file for one in places for file in one.glob("*.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"{folder} has no annotation file; expected {_EXPECTED}", "--data")
    names = ", ".join(str(one.relative_to(folder)) for one in found[:8])
    raise InputError(f"{folder} has several .json files: name one of {names}", "--data")


def _coco(path: Path, folder: Path | None) -> Data:
    document = _document(path)
    names = tuple(one["name"] for one in coco_format.categories(path))
    first = document["images"][0].get("file_name")
    if not isinstance(first, str) or not first:
        raise InputError("not in COCO's format: its first image has no 'file_name'", str(path))
    folder = folder or _folder_of(first, path)
    if not (folder / first).is_file():
        raise InputError(f"the image {shown(first)} of {path} is not in {folder}", "--images")
    entry: Entry = {"type": "coco", "images": folder, "annotations": path}
    count = len(document["images"])
    return Data(entry, count, names, f"{count} images in COCO's format")


def _document(path: Path) -> dict[str, Any]:
    """Read an annotation file. Raises InputError for one that is not in COCO's format."""
    try:
        document = json.loads(path.read_bytes())
        coco_format.categories(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = f"not an annotation file in COCO's format: {error}; expected {_EXPECTED}"
        raise InputError(reason, str(path)) from None
    images = document.get("images")
    if not isinstance(images, list) or not images or not isinstance(images[0], dict):
        raise InputError("not in COCO's format: it has no list of images", str(path))
    return dict(document)


def _folder_of(image: str, annotations: Path) -> Path:
    """Where the first image is, of the places where data sets have them. Raises InputError."""
    places = dict.fromkeys(_places(annotations))
    if found := next((one for one in places if (one / image).is_file()), None):
        return found
    looked = ", ".join(str(one) for one in places if one.is_dir())
    raise InputError(
        f"the image {shown(image)} of {annotations} was looked for in {looked}, and is not there;"
        " name its folder with --images DIR",
        "--data",
    )


def _places(annotations: Path) -> Iterator[Path]:
    """Folders around an annotation file: `instances_val2017.json` has images in `val2017`."""
    stem = annotations.stem.removeprefix("instances_").removeprefix("annotations_")
    for folder in (annotations.parent, annotations.parent.parent):
        yield from (folder / one for one in (stem, "images", f"images/{stem}", "JPEGImages", ""))

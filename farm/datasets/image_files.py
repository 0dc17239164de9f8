"""Image files: those that annotations name, and a folder of images without annotations."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from farm.errors import InputError, shown
from farm.plan.content.digests import files_in

_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_ORIENTATION = 0x0112
_ON_THE_SIDE = (5, 6, 7, 8)
"""Values of EXIF's orientation that swap height and width."""

_IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def require_images(images: Sequence[dict[str, Any]], folder: Path) -> None:
    """Check that every image is in the folder.

    Raises:
        InputError: an image is missing or lies outside.
    """
    names = [one["file_name"] for one in images]
    if outside := [name for name in names if not inside(folder, name)]:
        raise InputError(
            f"the image {shown(outside[0])} lies outside of the folder; expected a path inside of"
            " it, without '..'",
            str(folder),
        )
    if lost := [name for name in names if not os.path.isfile(os.path.join(folder, name))]:
        raise InputError(
            f"{len(lost)} of {len(names)} images are not there, the first is {shown(lost[0])}",
            str(folder),
        )


def inside(folder: Path, name: str) -> bool:
    """Whether the name is one of a file in the folder, where links may lead out of it.

    Names with `..` are none: after a link it leads to another folder than it seems.
    """
    return ".." not in PurePath(name).parts and (folder / name).is_relative_to(folder)


def of_another_size(
    images: Sequence[dict[str, Any]], folder: Path, upright: bool = True
) -> list[str]:
    """Describe the images whose files have another size than the annotations, a sentence each.

    upright: whether images are rotated by their EXIF orientation.
    """
    found = []
    for image in images:
        stated = (image.get("height"), image.get("width"))
        if None in stated:
            continue
        real = _size(folder / image["file_name"], upright)
        if real and real != stated:
            height, width = map(shown, stated)
            found.append(
                f"{shown(image['file_name'])} is {real[1]}x{real[0]} (width x height), not"
                f" {width}x{height} as the annotation file says"
            )
    return found


def _size(path: Path, upright: bool) -> tuple[int, int] | None:
    """(height, width) by the file's header; None where Pillow does not know it."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")  # of odd metadata
            width, height = image.size
            on_the_side = upright and _orientation(image) in _ON_THE_SIDE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # the stage prepare decodes it, and reports what is wrong
    return (width, height) if on_the_side else (height, width)


def _orientation(image: Image.Image) -> Any:
    """Of JPEG only: of other formats OpenCV's versions differ, and Pillow would decode a PNG."""
    return image.getexif().get(_ORIENTATION) if image.format == "JPEG" else None


def describe(images: Path, limit: int | None, annotations: Path) -> None:
    """Write `annotations`: the first `limit` images by name.

    Raises:
        InputError: there is no image.
    """
    names = sorted(
        os.path.normpath(name)
        for name in files_in(images)
        if os.path.splitext(name)[1].lower() in _IMAGES and os.path.isfile(images / name)
    )
    if not names:
        raise InputError("no images in it (.jpg, .png, .bmp, .tif, .webp)", str(images))
    rows = [{"id": i, "file_name": name} for i, name in enumerate(names[:limit], start=1)]
    annotations.parent.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps({"images": rows, "annotations": [], "categories": []}))

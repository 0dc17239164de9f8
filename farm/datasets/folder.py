"""A folder of images without annotations, as a data set in COCO's form."""

from __future__ import annotations

import json
import os
from pathlib import Path

from farm.errors import InputError
from farm.plan.tree import files_in

_IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def describe(images: Path, limit: int | None, annotations: Path) -> None:
    """Write `annotations`: the first `limit` images by name. Raises InputError if there is none."""
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

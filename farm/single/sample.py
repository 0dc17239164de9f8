"""One image as the network takes it, to compare two ways of running a model on it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm import specs
from farm.detections import Floats, ImageMeta
from farm.preprocess import preparer
from farm.single.shapes import fixed
from farm.units import Dims


@dataclass(frozen=True)
class Sample:
    """network: float32 [3, H, W], prepared. picture: uint8 [H, W, 3], BGR, the same to look at."""

    network: Floats
    picture: npt.NDArray[np.uint8]
    meta: ImageMeta


def sample(path: Path | None, facts: specs.ModelFacts, size: Dims) -> Sample:
    """Return the image letterboxed to `size`; without a path, an image drawn by seed.

    Raises:
        StepFailed: the file is not an image.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = path or _drawn(Path(folder), size)
        prepare = preparer(facts.pipeline, fixed(size))
        network, meta = prepare(str(path), 0, path.name)
        return Sample(network.astype(np.float32), _picture(path, meta), meta)


def _drawn(folder: Path, size: Dims) -> Path:
    import cv2

    from farm.datasets.synthetic import draw_scene

    path = folder / "drawn.png"
    cv2.imwrite(str(path), draw_scene(seed=7, number=1, size=min(size.h, size.w)).image)
    return path


def _picture(path: Path, meta: ImageMeta) -> Any:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None  # the network's input was made of it
    picture = np.zeros((meta.height, meta.width, 3), np.uint8)
    inside = slice(meta.top, meta.top + meta.valid_h), slice(meta.left, meta.left + meta.valid_w)
    picture[inside] = cv2.resize(image, (meta.valid_w, meta.valid_h))
    return picture

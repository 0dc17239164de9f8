"""Draw detections over images with mmdet's own drawing: in windows, or into files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from mmdet.core.visualization import imshow_det_bboxes
from pycocotools import mask as coco_mask

from farm.detections import Detections
from farm.single.results import pycocotools_rle

log = logging.getLogger(__name__)

_NO_WINDOW = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def has_display() -> bool:
    """Return whether matplotlib can open a window here."""
    return plt.get_backend().lower() not in _NO_WINDOW


def paint(
    picture: npt.NDArray[Any],
    found: Detections,
    classes: Sequence[str],
    title: str,
    min_score: float,
    file: Path | None,
    palette: Any = None,
) -> None:
    """Draw into `file`, or in a window that the user closes. picture: uint8 [H, W, 3], BGR."""
    with _same_colours():
        imshow_det_bboxes(
            picture,
            np.hstack([found.boxes, found.scores[:, None]]),
            found.labels,
            _masks(found),
            classes,
            score_thr=min_score,
            bbox_color=palette or (72, 101, 241),
            text_color=palette or (72, 101, 241),
            mask_color=palette,
            win_name=title,
            show=file is None,
            out_file=None if file is None else str(file),
        )


def show_or_write(
    picture: npt.NDArray[Any],
    found: Detections,
    classes: Sequence[str],
    title: str,
    name: str,
) -> None:
    """Draw in a window where there is a display, else into the file `name` of this folder."""
    file = None if has_display() else Path.cwd() / name
    paint(picture, found, classes, title, 0.3, file)
    if file is not None:
        log.info(f"No display here: {title}'s result is drawn in {file}")


@contextmanager
def _same_colours() -> Iterator[None]:
    """Seed the colours of masks, which mmdet draws at random: equal results are to look equal."""
    state = np.random.get_state()
    np.random.seed(42)
    try:
        yield
    finally:
        np.random.set_state(state)


def _masks(found: Detections) -> npt.NDArray[np.bool_] | None:
    if not found.rles:
        return None
    masks: npt.NDArray[np.uint8] = coco_mask.decode([pycocotools_rle(rle) for rle in found.rles])
    return masks.transpose(2, 0, 1).astype(bool)

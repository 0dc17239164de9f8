"""Draw detections over images with mmdet's own drawing: in windows, or into files."""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from mmdet.core.visualization import imshow_det_bboxes
from pycocotools import mask as coco_mask

from farm.datasets.image_files import inside
from farm.errors import InputError
from farm.single.mmdet.evaluation import pycocotools_rle

if TYPE_CHECKING:
    from farm.detections import Detections

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


class Painter:
    """Draws the detections of each image that it is called with; into `folder` if there is one.

    classes, palette: of label 0, 1, ..., set once the model is known.
    """

    classes: Sequence[str] = ()
    palette: Any = None

    def __init__(self, min_score: float, folder: Path | None) -> None:
        self._min_score, self.folder = min_score, folder
        if folder is None and not has_display():
            self.folder = Path.cwd() / "show"
            log.info(f"No display here: painted images go to {self.folder}")

    def require_apart(self, images: Iterable[tuple[Path, str]]) -> None:
        """Check that no painted image is written over one of these, or outside of the folder.

        Raises:
            InputError: one is.
        """
        for path, name in images if self.folder else ():
            assert self.folder is not None
            if not inside(self.folder, name):
                raise InputError(
                    f"image {name!r} would be painted outside of {self.folder}", "--show-dir"
                )
            painted = self.folder / name
            if painted.exists() and painted.samefile(path):
                raise InputError(
                    f"{self.folder} has the data set's own images; give another folder",
                    "--show-dir",
                )

    def __call__(self, path: Path, name: str, found: Detections) -> None:
        import cv2

        file = self.folder / name if self.folder else None
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert picture is not None  # it has been prepared
        paint(picture, found, self.classes, name, self._min_score, file, self.palette)

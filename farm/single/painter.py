"""Draw the results of a data set's images while they are made: in windows, or into a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farm.datasets.image_files import inside
from farm.detections import Detections
from farm.errors import InputError
from farm.single import drawing

log = logging.getLogger(__name__)


class Painter:
    """Draws the detections of each image that it is called with; into `folder` if there is one.

    classes, palette: of label 0, 1, ..., set once the model is known.
    """

    classes: Sequence[str] = ()
    palette: Any = None

    def __init__(self, min_score: float, folder: Path | None) -> None:
        self._min_score, self.folder = min_score, folder
        if folder is None and not drawing.has_display():
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
                raise InputError(f"image {name!r} would be painted outside of it", "--show-dir")
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
        drawing.paint(picture, found, self.classes, name, self._min_score, file, self.palette)

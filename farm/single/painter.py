"""Results painted while they are made: in windows, or into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.detections import Detections
from farm.progress import say
from farm.single import drawing


class Painter:
    """Paints every image over which it is called; into `folder` if there is one."""

    def __init__(
        self, classes: Sequence[str], palette: Any, min_score: float, folder: Path | None
    ) -> None:
        self._classes, self._palette, self._min_score = classes, palette, min_score
        self._folder = folder
        if folder is None and not drawing.has_display():
            self._folder = Path.cwd() / "show"
            say(f"No display here: painted images go to {self._folder}")

    def __call__(self, path: Path, name: str, found: Detections) -> None:
        import cv2

        file = self._folder / name if self._folder else None
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert picture is not None  # it was prepared before
        drawing.paint(picture, found, self._classes, name, self._min_score, file, self._palette)

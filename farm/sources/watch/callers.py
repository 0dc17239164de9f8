"""Whether the code that is running now is the user's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType

from farm.sources import origin

_IMPORTS_FOR_A_CONFIG = "import_modules_from_strings"
"""mmcv's function that imports what `custom_imports` names."""


def asked_by_user(imports_too: bool, everything: bool) -> bool:
    """Whether the user's code is among the callers, up to the farm's own.

    imports_too: also where it only imports a package whose own code then runs. everything: all
    that the farm calls is the user's, wherever it is installed.
    """
    for frame in _callers():
        kind = origin.origin(frame.f_code.co_filename)
        if kind == "farm":
            return everything
        if kind == "own" or frame.f_code.co_name == _IMPORTS_FOR_A_CONFIG:
            return True
        if kind == "import" and not imports_too:
            return False
    return False


def _callers() -> Iterator[FrameType]:
    """From the innermost outwards, without this package's own."""
    frame: FrameType | None = sys._getframe(1)
    here = os.path.dirname(__file__)
    while frame is not None:
        if os.path.dirname(frame.f_code.co_filename) != here:
            yield frame
        frame = frame.f_back


def asked_by_import() -> bool:
    """Whether it is the import machinery that asks, on whoever's behalf."""
    return next((origin.origin(f.f_code.co_filename) for f in _callers()), "farm") == "import"

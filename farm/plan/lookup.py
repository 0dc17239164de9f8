"""Where a file that a config names by a relative path may lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Reach = Literal["beside", "above"]
"""beside: also in the folder of the config. above: also in the folders above that one."""


def candidates(name: str, folder: Path, reach: Reach) -> Iterator[Path]:
    """The places in which it is looked for, in this order: the current folder is the first.

    folder: the config's.
    """
    folder = folder.absolute()
    others = (folder, *folder.parents) if reach == "above" else (folder,)
    yield from dict.fromkeys(one / name for one in (Path.cwd(), *others))


def first(name: str, folder: Path, reach: Reach) -> Path | None:
    """The first of them that is a file."""
    return next((one for one in candidates(name, folder, reach) if os.path.isfile(one)), None)

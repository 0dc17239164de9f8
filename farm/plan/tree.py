"""The files of a folder, those in linked folders too: people keep images where there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_in(folder: Path) -> Iterator[str]:
    """Each file as `./name` or `folder/name`, in a fixed order; those in a linked folder once."""
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [one for one in sorted(folders) if _to_enter(os.path.join(root, one), seen)]
        place = os.path.relpath(root, folder)
        yield from (f"{place}/{name}" for name in sorted(names))


def _to_enter(path: str, seen: set[str]) -> bool:
    """Not a link to where it was already, nor one upwards, which would lead here again."""
    if not os.path.islink(path):
        return True
    target = os.path.realpath(path)
    if any(os.path.commonpath((target, one)) == target for one in seen):
        return False
    seen.add(target)
    return True

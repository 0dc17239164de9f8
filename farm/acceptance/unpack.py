"""A pack opened on the machine that it was brought to; with the standard library alone, since
the packages that the rest needs may lie in the pack."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from farm.acceptance.archive import Limits, errors_named, members, write
from farm.errors import InputError

NAME = "pack.json"

LIMITS = Limits(files=100_000, file=4 << 30, total=16 << 30)
"""Of a pack: its models' layers and its packages."""


def unpacked(pack: Path, place: Path) -> Path:
    """The pack's folder: itself, or that of its archive, unpacked once under `place`."""
    if pack.is_dir():
        for _ in members(pack, LIMITS, "a pack"):  # no links, no pipes
            pass
        return pack
    if not pack.is_file():
        raise InputError("no such pack; `make gpu-pack` makes one", str(pack))
    digest = hashlib.sha256(pack.read_bytes()).hexdigest()
    folder = place / f"pack-{digest[:16]}"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        extract(pack, part, "a pack")
        part.rename(folder)
    return folder


def extract(archive: Path, folder: Path, kind: str, limits: Limits = LIMITS) -> None:
    """Raises InputError for what is no whole archive, or has a member that is refused (see
    `archive`); nothing is left of it then."""
    folder.mkdir(parents=True)
    try:
        for member in members(archive, limits, kind):
            with errors_named(archive, kind):
                write(member, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def use_packages(folder: Path) -> None:
    """The pack's packages for this Python, where it has none of its own."""
    carried = folder / f"python{sys.version_info.major}.{sys.version_info.minor}"
    needed = ("pydantic", "yaml", "pycocotools", "numpy")
    if carried.is_dir():
        sys.path.append(str(carried))
    if absent := [name for name in needed if importlib.util.find_spec(name) is None]:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise InputError(
            f"Python {python} has no {', '.join(absent)}, and the pack carries none for it; "
            "install them, or use a Python that it carries them for",
            str(folder),
        )

"""Artifacts of runs whose place is a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from farm.files import atomic

MOST_LOG_BYTES = 1 << 20
"""Of the end of a log; MLflow's page shows no more than that well."""


def put(uri: str, files: Mapping[str, Path | str]) -> None:
    """Write files to a folder that an address names (`file:///...`): texts, and copies of files.

    Raises:
        OSError: one cannot be written.
    """
    folder = Path(unquote(urlparse(uri).path))
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            atomic.write(path, content, durable=False)
            continue
        with atomic.replacing(path) as part:
            shutil.copyfile(content, part)


def tail(log: Path) -> str:
    """Return the end of a log as text. Raises OSError."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - MOST_LOG_BYTES))
        return file.read().decode(errors="backslashreplace")

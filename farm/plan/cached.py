"""The user's cache: what planning found out once and can find out again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm"


def write_cached(path: Path, text: str) -> None:
    """By temporary file and rename. Where the cache cannot be written (a read-only home), the next
    run finds it out again: that costs its time and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(text)
        part.replace(path)
    except OSError:
        return

"""Write files whole, read those that anyone wrote, claim work by a file; the folder of caches."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder in the user's cache, for what the farm can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm"

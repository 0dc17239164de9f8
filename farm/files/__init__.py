"""Write files whole, read those of anyone, claim work by a file; paths, the folder of caches."""

from __future__ import annotations

import os
from pathlib import Path

from farm.errors import InputError


def cache_folder() -> Path:
    """Return the folder in the user's cache, for what the farm can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm"


def expanded(name: str, folder: Path) -> Path:
    """Return the path of `name` from `folder`, with `~` filled in.

    Raises:
        InputError: the name cannot be a path.
    """
    try:
        path = folder / Path(name).expanduser()
        str(path).encode()
        os.stat(path)  # raises for a null byte, a name too long, a loop of links
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{name[:80]!r} is no path: {error}") from None
    return path

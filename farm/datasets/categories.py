"""The categories of a COCO annotation file, without reading what else is in it."""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

_KEY = re.compile(rb'"categories"\s*:\s*(?=\[)')


def categories(path: Path) -> list[dict[str, Any]]:
    """In the file's order. Files for training can have gigabytes: they are searched, not parsed.

    Raises:
        OSError: it cannot be read. ValueError: it has no list of categories with names and ids.
    """
    found = _found(path)
    if not isinstance(found, list) or not found:
        raise ValueError("it has no list of categories")
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or "id" not in one:
            raise ValueError("a category in it has no name or no id")
    return found


def _found(path: Path) -> Any:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            places = [match.end() for match in _KEY.finditer(content)]
            if len(places) == 1:
                return _list_at(content, places[0])
    # The key is also used deeper down, or the file is in another encoding of Unicode's.
    whole = json.loads(path.read_bytes())
    return whole.get("categories") if isinstance(whole, dict) else None


def _list_at(content: mmap.mmap, start: int) -> Any:
    size = 1 << 16
    while True:
        text = content[start : start + size].decode("utf-8", errors="ignore")
        try:
            return json.JSONDecoder().raw_decode(text)[0]
        except ValueError:
            if start + size >= len(content):
                raise
        size *= 8

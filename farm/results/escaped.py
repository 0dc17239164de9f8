"""Texts from files and models in formats that other programs act upon: spreadsheets, markdown."""

from __future__ import annotations

import re
from typing import Any

from farm.terminal import plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""

_MARKUP = re.compile(r"[\\`*\[\]|<>&]|(?<![^\W_])_|_(?![^\W_])|^\s*#")


def for_csv(value: Any) -> Any:
    """A number as it is; a text on one line, and with `'` before what would be a formula."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if value.startswith(_FORMULA) else text


def for_markdown(text: str) -> str:
    """A text on one line that means itself: no markup, no HTML, no end of a table's cell."""
    return _MARKUP.sub(_escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0].strip()
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(character, f"\\{character}")

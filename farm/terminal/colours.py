"""Colours of lines in a terminal that has them, unless NO_COLOR asks for none."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

STYLES: Mapping[str, str] = {"bad": "31", "doubtful": "33", "best": "1;32"}
"""The parameters of each style's escape sequence (ECMA-48, SGR)."""

_END = "\x1b[0m"
_CODES = re.compile(rf"(\x1b\[(?:0|{'|'.join(STYLES.values())})m)")


def has_colours() -> bool:
    """Return whether stdout is a terminal with colours, and NO_COLOR (no-color.org) is not set."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(line: str, style: str) -> str:
    """Return a line of safe text in one of `STYLES`; '' leaves it as it is."""
    return f"\x1b[{STYLES[style]}m{line}{_END}" if style else line


def show(text: str) -> None:
    """Print text that may have lines from `painted`.

    The codes of the styles alone are written as they are, everything else as `print` does.
    """
    terminal = getattr(sys.stdout, "unguarded", sys.stdout)
    for number, part in enumerate(_CODES.split(text)):
        (terminal if number % 2 else sys.stdout).write(part)
    print()

"""Text from files, models and libraries, made safe to show: nothing in it steers the terminal."""

from __future__ import annotations

import contextlib
import signal
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, invisible format characters (among them those that turn the direction of
writing), halves of surrogate pairs, and the separators of lines and paragraphs."""

_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: str, keep: str = "") -> str:
    """One line in which every character that is not shown as itself is written out, ESC as
    `\\x1b`. keep: characters that stay as they are, such as line ends."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in keep else _shown(one) for one in text)


def plain_lines(text: str) -> list[str]:
    """The lines of a text, each `plain`."""
    return [plain(line) for line in text.split("\n")]


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _CATEGORIES:
        return character
    code = ord(character)
    form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return _NAMES.get(character, form if code < 0x10000 else f"\\U{code:08x}")


class PlainStream:
    """A text stream that writes `plain` text to another; line ends, tabs and carriage returns
    (progress bars are made of them) stay. All else is the other stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        shown = plain(text, "\n\r\t")
        self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Whatever Python code prints meanwhile, the models' and the libraries' too, is plain."""
    out: Any = sys.stdout and PlainStream(sys.stdout)  # None where it is closed
    err: Any = sys.stderr and PlainStream(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def copy_plainly(log: str) -> None:
    """Standard input as it is into the file `log`, and `plain` to standard output, to its end: an
    interrupt is meant for the process that writes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = PlainStream(sys.stdout)
    with open(log, "wb") as file:
        for line in sys.stdin.buffer:
            file.write(line)
            file.flush()
            out.write(line.decode(errors="backslashreplace"))
            out.flush()


if __name__ == "__main__":
    copy_plainly(sys.argv[1])

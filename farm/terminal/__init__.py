"""Make text of files, models and libraries safe to show, so that it cannot control the terminal."""

from __future__ import annotations

import contextlib
import signal
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control characters, invisible format characters (among them those that change the direction of
writing), surrogates, and the separators of lines and paragraphs."""

_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: str, keep: str = "") -> str:
    """Return the text with every character that is not printable as an escape, ESC as `\\x1b`.

    keep: characters that stay as they are, such as line ends.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in keep else _shown(one) for one in text)


def plain_lines(text: str) -> list[str]:
    """Return the lines of a text, each made safe by `plain`."""
    return [plain(line) for line in text.split("\n")]


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _CATEGORIES:
        return character
    code = ord(character)
    form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return _NAMES.get(character, form if code < 0x10000 else f"\\U{code:08x}")


class PlainStream:
    """A text stream that writes text, made safe by `plain`, to another stream.

    Line ends, tabs and carriage returns, which progress bars need, stay as they are. All other
    attributes are those of the other stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def unguarded(self) -> TextIO:
        """The other stream, which takes any text as it is."""
        return self._stream

    def write(self, text: str) -> int:
        """Write the text made safe; return the length of `text` itself."""
        encoding = self._stream.encoding or "utf-8"
        shown = plain(text, "\n\r\t")
        self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Make safe what any Python code prints for the length of a block."""
    out: Any = sys.stdout and PlainStream(sys.stdout)  # None if it is closed
    err: Any = sys.stderr and PlainStream(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def copy_plainly(log: str) -> None:
    """Copy standard input unchanged to the file `log`, and made safe to standard output.

    It reads to the end of the input and ignores SIGINT, which is meant for the process that writes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = PlainStream(sys.stdout)
    with open(log, "wb") as file:
        for line in sys.stdin.buffer:
            file.write(line)
            file.flush()
            out.write(line.decode(errors="backslashreplace"))
            out.flush()


# engine.workers.output runs this file by its path, isolated: it may import the standard library
# alone.
if __name__ == "__main__":
    copy_plainly(sys.argv[1])

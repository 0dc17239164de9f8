"""Redirect a step's output to its log, and undo what its code does to the process's streams."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from farm import terminal
from farm.failures import class_name, in_one_line

_STREAMS = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}


@contextmanager
def output_to(log: Path, echo: bool) -> Iterator[None]:
    """Redirect stdout and stderr, also of native libraries, to the log for the length of a block.

    echo: show it on the terminal too. Reading stdin gives the end of the file.

    Raises:
        OSError: the log cannot be written.
    """
    with _descriptors(_tee(log) if echo else log.open("wb")), _streams():
        yield


def _tee(log: Path) -> subprocess.Popen[bytes]:
    """A process that copies its input to the log, and to the terminal as text that cannot steer
    it."""
    command = [sys.executable, "-I", terminal.__file__, str(log)]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


@contextmanager
def _descriptors(sink: IO[bytes] | subprocess.Popen[bytes]) -> Iterator[None]:
    """Replace the three file descriptors; wait afterwards for a process that reads the output."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    kept = [_copy(number) for number in range(3)]
    file = sink.stdin if isinstance(sink, subprocess.Popen) else sink
    assert file is not None
    with file, open(os.devnull, "rb") as nothing:
        for number, source in enumerate((nothing, file, file)):
            os.dup2(source.fileno(), number)
    try:
        yield
    finally:
        for number, old in enumerate(kept):
            with suppress(OSError):  # the step's code may have closed any descriptor
                _put_back(old, number)
        if isinstance(sink, subprocess.Popen):
            sink.wait()


def _copy(number: int) -> int | None:
    """A copy of the descriptor; None where the process has been started without it."""
    try:
        return os.dup(number)
    except OSError:
        return None


def _put_back(old: int | None, number: int) -> None:
    if old is None:
        os.close(number)
        return
    os.dup2(old, number)
    os.close(old)


@contextmanager
def _streams() -> Iterator[None]:
    """Give the step streams of its own, so that closing or replacing them harms no later step.

    They are never closed here: libraries keep the streams that they find at their import.
    """
    kept = {name: getattr(sys, name) for name in _STREAMS}
    for name, (number, mode) in _STREAMS.items():
        setattr(sys, name, _stream(number, mode))
    try:
        yield
    finally:
        for name, stream in kept.items():
            _flush(getattr(sys, name))
            setattr(sys, name, stream)


def _stream(number: int, mode: str) -> IO[str]:
    return open(number, mode, buffering=1, errors="backslashreplace", closefd=False)


def _flush(stream: TextIO | None) -> None:
    with suppress(OSError, ValueError, AttributeError):  # it is None, or closed
        stream.flush()  # type: ignore[union-attr]


@contextmanager
def same_folder() -> Iterator[None]:
    """Return to the current folder afterwards, which a step's code may change."""
    here = os.getcwd()
    try:
        yield
    finally:
        os.chdir(here)


@contextmanager
def this_process() -> Iterator[None]:
    """End a process that the block has forked and that would go on behind it, as after an error."""
    own = os.getpid()
    try:
        yield
    except BaseException:  # also an exit, which would go on in the copy
        if os.getpid() != own:
            traceback.print_exc()
            os._exit(1)
        raise
    if os.getpid() != own:
        os._exit(0)


def add_traceback(error: BaseException, log: Path, echo: bool) -> None:
    """Append the error's traceback to the step's log. echo: show it on the terminal too."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as other:  # raised by the error's own class
        text = f"{class_name(error)}, whose traceback cannot be printed: {in_one_line(other)}\n"
    with suppress(OSError), log.open("a", errors="backslashreplace") as file:
        file.write(text)
    if echo:
        print(terminal.plain(text, "\n\t"), file=sys.stderr)

"""Where a step's output goes: what its code does to the process's streams ends with the step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

_STREAMS = {"stdin": (0, "r"), "stdout": (1, "w"), "stderr": (2, "w")}


@contextmanager
def output_to(log: Path, echo: bool) -> Iterator[TextIO]:
    """Everything written to stdout and stderr, native libraries' too, goes to the log.

    echo: on the terminal too. Reading stdin gives end of file. Yields a stream to the same place,
    for what must be said whatever the code has closed.
    """
    with ExitStack() as stack:
        sink = _sink(log, echo, stack)
        own = os.fdopen(os.dup(sink.fileno()), "w", buffering=1, errors="backslashreplace")
        stack.enter_context(own)
        stack.enter_context(_descriptors(sink.fileno()))
        stack.enter_context(_streams())
        yield own


def _sink(log: Path, echo: bool, stack: ExitStack) -> IO[bytes]:
    if not echo:
        return stack.enter_context(log.open("wb"))
    tee = stack.enter_context(subprocess.Popen(["tee", str(log)], stdin=subprocess.PIPE))
    assert tee.stdin is not None
    return tee.stdin


@contextmanager
def _descriptors(sink: int) -> Iterator[None]:
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    kept = [os.dup(number) for number in range(3)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, sink, sink)):
        os.dup2(source, number)
    os.close(nothing)
    try:
        yield
    finally:
        for number, old in enumerate(kept):
            os.dup2(old, number)
            os.close(old)


@contextmanager
def _streams() -> Iterator[None]:
    """Streams of the step's own: closing them, or None in their place, harms no later one.

    Never closed here: libraries keep what they find when they are imported.
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
    with suppress(OSError, ValueError, AttributeError):  # None, or closed by whoever has it
        stream.flush()  # type: ignore[union-attr]


@contextmanager
def same_folder() -> Iterator[None]:
    """A step's code may change the folder; the next one begins where this one did."""
    here = os.open(".", os.O_RDONLY)
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)

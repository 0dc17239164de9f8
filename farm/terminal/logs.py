"""Set up `logging` for the farm's messages: on stderr, since programs read stdout; in a step, in
the step's log."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from farm.terminal import plain

_FARM = logging.getLogger("farm")


class _Stderr(logging.Handler):
    """Writes to the current `sys.stderr`, which is the log while a step runs."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class _Plain(logging.Formatter):
    """Formats a message as safe text; a debug message with the name of its module."""

    def format(self, record: logging.LogRecord) -> str:
        text = plain(super().format(record), "\n\t")
        return f"{record.name}: {text}" if record.levelno < logging.INFO else text


def configure(level: int = logging.INFO) -> None:
    """Show the farm's messages of this level and above; a second call changes the level."""
    if not any(isinstance(handler, _Stderr) for handler in _FARM.handlers):
        handler = _Stderr()
        handler.setFormatter(_Plain())
        _FARM.addHandler(handler)
        _FARM.propagate = False  # libraries may configure the root logger
    if _FARM.level != level:  # to set it walks over all loggers
        _FARM.setLevel(level)


@contextmanager
def in_full() -> Iterator[None]:
    """Show every message for the length of a block, for the log of a step."""
    before = _FARM.level
    configure(logging.DEBUG)
    try:
        yield
    finally:
        configure(before)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add -v and -q, which may stand before or after a command's name; see `level_of`."""
    choice = parser.add_mutually_exclusive_group()
    for short, long, level, text in (
        (
            "-v",
            "--verbose",
            logging.DEBUG,
            "show details, such as the log of a step",
        ),
        ("-q", "--quiet", logging.WARNING, "show results, warnings and errors only"),
    ):
        choice.add_argument(
            short,
            long,
            dest="log_level",
            action="store_const",
            const=level,
            default=argparse.SUPPRESS,
            help=text,
        )


def level_of(options: argparse.Namespace) -> int:
    """Return the level that -v or -q has chosen, else INFO."""
    return int(getattr(options, "log_level", logging.INFO))

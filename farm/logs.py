"""The farm's own messages, through Python's `logging`: on stderr, beside what programs read on
stdout; in a step, in the step's log."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from farm.terminal import plain

_FARM = logging.getLogger("farm")


class _Stderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment: that of a step is its log."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class _Plain(logging.Formatter):
    """The message as it is, made safe to show; of a detail, also the module that gives it."""

    def format(self, record: logging.LogRecord) -> str:
        text = plain(super().format(record), "\n\t")
        return f"{record.name}: {text}" if record.levelno < logging.INFO else text


def configure(level: int = logging.INFO) -> None:
    """Show the farm's messages of this level and above; a second call changes the level."""
    if not any(isinstance(handler, _Stderr) for handler in _FARM.handlers):
        handler = _Stderr()
        handler.setFormatter(_Plain())
        _FARM.addHandler(handler)
        _FARM.propagate = False  # libraries set up the root logger as they like
    _FARM.setLevel(level)


@contextmanager
def in_full() -> Iterator[None]:
    """Show every message for the length of a block: the log of a step has them all."""
    before = _FARM.level
    configure(logging.DEBUG)
    try:
        yield
    finally:
        configure(before)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add -v and -q, which stand before or after a command's name; `level_of` reads them."""
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
    """The level that `add_arguments` set, or INFO."""
    return int(getattr(options, "log_level", logging.INFO))

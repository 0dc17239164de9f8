"""`farm completion SHELL`: a script by which a shell completes the words of `farm`.

The script has all commands and options in it, so that the Tab key starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")

_FILES = {"matrix", "config", "checkpoint", "pack", "records", "FILE", "FILE_OR_FOLDER"}
_FOLDERS = {"DIR", "PLACE"}
"""Arguments that are files or folders, by the name of their value."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm completion`."""
    parser.description = (
        "Print a script that completes commands, options, choices and files of `farm` in a shell."
        " Print it again after an upgrade."
    )
    parser.set_defaults(command=completion)
    parser.add_argument("shell", choices=SHELLS, help="the shell that runs the script")


def completion(options: argparse.Namespace) -> int:
    """Print the script. Returns 0."""
    import shtab

    from farm.cli.main import make_parser
    from farm.cli.parser import CommandParser

    parser = make_parser()
    for one in _parsers(parser):
        # Shells show it beside the name, where a paragraph is too long.
        short = (one.description or "").split(". ")[0]
        if isinstance(one, CommandParser):
            one.add_arguments()
        one.description = short
    for one in _parsers(parser):
        for action in one._actions:
            name = action.metavar if isinstance(action.metavar, str) else action.dest
            if name in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif name in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its commands."""
    yield parser
    for action in list(parser._actions):
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _parsers(inner)

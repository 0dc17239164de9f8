"""The `farm` command: its commands by name, of which only the one that is run is imported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import farm
from farm import run as run_command
from farm.cli.examples import epilog_of
from farm.cli.parser import CommandParser, HelpFormatter, Parser
from farm.terminal import logs


@dataclass(frozen=True)
class Command:
    """A command. adds: `module:function`, which adds its arguments to a parser and sets `command`,
    the function that runs it and returns the exit code."""

    text: str
    adds: str


COMMANDS = {
    "init": Command(
        "write a first matrix from a config, a checkpoint and a data set",
        "farm.init.options:add_command",
    ),
    "run": Command("run a matrix: the main job", "farm.run:add_command"),
    "pack": Command(
        "pack the rest of a sweep for a machine without network", "farm.offline.options:add_pack"
    ),
    "run-pack": Command(
        "run the steps of a pack and write a file of records", "farm.offline.options:add_run_pack"
    ),
    "import": Command(
        "import records that another machine wrote", "farm.offline.options:add_import"
    ),
    "plan": Command(
        "show the cells and steps of a matrix, and what the store has; runs nothing",
        "farm.cli.commands:add_plan",
    ),
    "watch": Command(
        "show the table of a sweep that runs, as it fills", "farm.cli.watch:add_command"
    ),
    "leaderboard": Command("show the results", "farm.cli.leaderboard:add_command"),
    "best": Command(
        "pick the engine to ship for each target and model, and say why",
        "farm.cli.best:add_command",
    ),
    "bundle": Command(
        "write a cell's engine with all that a program needs to use it into a folder",
        "farm.bundle.options:add_bundle",
    ),
    "check": Command(
        "check a bundle on the machine where it will run", "farm.bundle.options:add_check"
    ),
    "report": Command(
        "write the results as one page, or the plot of AP against latency as an image",
        "farm.cli.report:add_command",
    ),
    "diff": Command(
        "compare two sweeps, or two values of an axis, cell by cell", "farm.cli.diff:add_command"
    ),
    "compare": Command(
        "run the engines of some cells in turn, and show which is faster",
        "farm.cli.compare:add_command",
    ),
    "reproduce": Command(
        "run one cell again in this process, with full logs", "farm.cli.commands:add_reproduce"
    ),
    "bisect": Command(
        "find the node at which a cell's engine leaves its reference",
        "farm.bisect.options:add_command",
    ),
    "export": Command(
        "export a detector to a standard ONNX file", "farm.single.options:add_export"
    ),
    "build": Command("build an engine from an ONNX file", "farm.single.options:add_build"),
    "test": Command("run a model over its config's test data set", "farm.single.options:add_test"),
    "models": Command("check which models export, and print it", "farm.models.command:add_command"),
    "store": Command(
        "look after the artifacts that sweeps have made", "farm.cli.store:add_commands"
    ),
    "gc": Command("remove artifacts that no kept sweep needs", "farm.cli.gc:add_command"),
    "doctor": Command(
        "show what this machine can run, what is missing and how to get it",
        "farm.cli.commands:add_doctor",
    ),
    "schema": Command(
        "print the JSON schema of a matrix, for editors", "farm.cli.schema:add_command"
    ),
    "completion": Command(
        "print a script that completes words in bash, zsh or fish",
        "farm.cli.completion:add_command",
    ),
}
"""In the order of the help."""


def main(guarded: Callable[..., int] = run_command.guarded) -> None:
    """Run the command that the command line names, and end with its exit code.

    guarded: runs a command with the parsed command line and returns its exit code.
    """
    parser = make_parser()
    options = run_command.parse(parser)
    if not hasattr(options, "command"):
        parser.print_help()
        sys.exit(2)
    sys.exit(guarded(options.command, options))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="farm",
        description="One matrix in, a leaderboard and a picked engine out.",
        epilog=epilog_of(""),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"farm {farm.__version__}")
    logs.add_arguments(parser)
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=CommandParser
    )
    for name, one in COMMANDS.items():
        commands.add_parser(
            name, help=one.text, description=one.text, adds=one.adds, epilog=epilog_of(name)
        )
    return parser


if __name__ == "__main__":
    main()

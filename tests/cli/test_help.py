"""Helps teach by example."""

from __future__ import annotations

import argparse
import shlex

import pytest
from conftest import Tool

from farm.cli import main as command_line
from farm.cli.examples import EXAMPLES, epilog_of

WORDS = [
    pytest.param(name, line.split("  #")[0].strip(), id=line[:60])
    for name, text in EXAMPLES.items()
    for line in text.replace("\\\n", " ").strip().splitlines()
]


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == {"", *command_line.COMMANDS}
    for text in EXAMPLES.values():
        assert [line for line in text.splitlines() if len(line) > 78] == []


@pytest.mark.parametrize(("command", "line"), WORDS)
def test_an_example_is_a_command_line_that_parses(command: str, line: str) -> None:
    written = line.removeprefix("source <(").removeprefix('eval "$(').removesuffix('"')
    written = written.removesuffix(")").strip()
    program, *words = shlex.split(written.split(" > ")[0])
    assert program == "farm" and words[0] == (command or words[0])
    if "COMMAND" not in words:
        assert command_line.make_parser().parse_args(words).command


def test_a_help_ends_with_its_examples_line_by_line(tool: Tool) -> None:
    for name in ("best", "export", "compare"):
        done = tool(name, "--help")
        assert done.code == 0 and done.out.endswith(f"\n\n{epilog_of(name)}\n")
    assert "farm init own.py" in tool("--help").out


def test_options_that_may_be_left_out_have_their_default_in_the_help() -> None:
    (commands,) = command_line.make_parser()._subparsers._group_actions  # type: ignore[union-attr]
    lacking = []
    for name, one in commands.choices.items():  # type: ignore[union-attr]
        one.add_arguments()
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                continue
            assert action.help, f"{name} {action.dest} has no help"
            plain = action.default in (None, False, [], "==SUPPRESS==")
            if not plain and "default" not in action.help:
                lacking.append(f"{name} {action.dest}")
    assert lacking == []

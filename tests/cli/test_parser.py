"""What is said of a wrong word on the command line: the nearest one that is known."""

from __future__ import annotations

import argparse

import pytest
from conftest import Tool

from farm.cli.parser import Parser


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bst", "farm: error: argument COMMAND: invalid choice: 'bst'; did you mean 'best'?"),
        ("zzz", "invalid choice: 'zzz'; expected one of: best, bisect, build, bundle, check"),
        ("--versoin", "farm: error: unrecognized arguments: --versoin; did you mean '--version'?"),
        ("leaderboard --format tabel", "--format: invalid choice: 'tabel'; did you mean 'table'?"),
        ("leaderboard --format xml", "'xml'; expected one of: csv, json, markdown, table"),
        ("best --tagret cpu", "farm best: error: unrecognized arguments: --tagret cpu; did you"),
        ("best x --jsn --tagret=cpu", "arguments: x --jsn --tagret=cpu; did you mean '--json'?"),
        ("best --zzz", "farm best: error: unrecognized arguments: --zzz\n"),
        ("best --pe", "farm best: error: unrecognized arguments: --pe\n"),  # not like all by its --
        ("doctor x", "farm doctor: error: unrecognized arguments: x\n"),
        ("store verfy", "farm store: error: argument COMMAND: invalid choice: 'verfy'; did you"),
        ("store verify --discrad", "farm store verify: error: unrecognized arguments: --discrad;"),
        ("store verify --discrad", "did you mean '--discard'?"),
        ("run m.yaml x=1 --exectuor ray y=2", "arguments: --exectuor; did you mean '--executor'?"),
        ("leaderboard --sort -box_ap", "a value that begins with - is given as --sort=-box_ap"),
        ("leaderboard --sort", "argument --sort: expected one argument\n"),
        ("leaderboard --top 3 --sort --by-class", "is given as --sort=--by-class"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_exit_code_2_with_what_was_meant(tool: Tool, words: str, said: str) -> None:
    done = tool(*words.split())
    assert done.code == 2 and done.out == "" and said in done.err


def test_choices_are_known_in_the_words_of_every_python(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for known in ("'csv', 'json'", "csv, json"):
        with pytest.raises(SystemExit):
            Parser("x").error(f"argument -f: invalid choice: 'jsn' (choose from {known})")
        assert capsys.readouterr().err.endswith("invalid choice: 'jsn'; did you mean 'json'?\n")


def test_other_errors_are_said_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("x")
    parser.add_argument("--count", type=int)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--count", "many"])
    assert end.value.code == 2 and isinstance(parser, argparse.ArgumentParser)
    assert capsys.readouterr().err.endswith("argument --count: invalid int value: 'many'\n")

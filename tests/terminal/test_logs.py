"""The farm's messages: where they go, how much -v and -q show, and that they cannot steer."""

from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
from conftest import PROJECT

from farm.cli.main import make_parser
from farm.terminal import logs

log = logging.getLogger("farm.some.module")


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    yield
    logs.configure()


def written(level: int) -> list[str]:
    logs.configure(level)
    with redirect_stderr(io.StringIO()) as err:
        log.debug("a detail")
        log.info("progress")
        log.warning("a warning")
        log.error("an error")
    return err.getvalue().splitlines()


def test_messages_are_on_stderr_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("two\nlines 100% \x1b[2J")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "two\nlines 100% \\x1b[2J\n")


def test_each_level_shows_what_it_should() -> None:
    assert written(logging.WARNING) == ["a warning", "an error"]
    assert written(logging.INFO) == ["progress", "a warning", "an error"]
    assert written(logging.DEBUG)[:2] == ["farm.some.module: a detail", "progress"]


def test_configuring_twice_shows_each_message_once() -> None:
    logs.configure()
    assert written(logging.INFO).count("progress") == 1


def test_other_libraries_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.root.handlers)
    logs.configure(logging.DEBUG)
    logging.getLogger("somebody").debug("nothing of ours")
    assert capsys.readouterr().err == "" and logging.root.handlers == handlers


def test_a_step_logs_in_full_and_the_level_returns() -> None:
    logs.configure(logging.WARNING)
    with logs.in_full():
        assert log.isEnabledFor(logging.DEBUG)
    assert not log.isEnabledFor(logging.INFO)


@pytest.mark.parametrize(
    ("words", "level"),
    [
        (["plan", "m.yaml"], logging.INFO),
        (["plan", "m.yaml", "-v"], logging.DEBUG),
        (["-q", "plan", "m.yaml"], logging.WARNING),
        (["run", "--quiet", "m.yaml"], logging.WARNING),
        (["build", "c.py", "m.onnx", "--verbose"], logging.DEBUG),
        (["pack", "-v", "m.yaml"], logging.DEBUG),
    ],
)
def test_every_command_takes_them(words: list[str], level: int) -> None:
    assert logs.level_of(make_parser().parse_args(words)) == level


def test_both_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["plan", "m.yaml", "-v", "-q"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_command_begins_at_the_usual_level() -> None:
    assert logs.level_of(argparse.Namespace()) == logging.INFO


def test_a_job_shows_its_messages_too() -> None:
    """`python -m farm.run` runs the module as `__main__`, which is no logger of the farm's."""
    command = [sys.executable, "-m", "farm.run", "nowhere.yaml", "--verbose"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("farm: nowhere.yaml: ")
    assert "\nfarm.run: its traceback\n" in done.stderr

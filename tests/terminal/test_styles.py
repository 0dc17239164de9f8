"""Styles of rows: in a terminal alone, not against NO_COLOR; no other code is let through."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import PROJECT
from rows import row

from farm.results import leaderboard
from farm.terminal import PlainStream
from farm.terminal.styles import show
from farm.terminal.tables import table


def in_terminal(place: Path, columns: int = 80) -> str:
    """What `farm leaderboard` writes to a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    run = subprocess.Popen(
        [sys.executable, "-m", "farm", "leaderboard", "--results", str(place)],
        stdout=follower, cwd=PROJECT, env={**clean, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    written = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        written += part
    os.close(leader)
    assert run.wait() == 0
    return written.decode()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = [
        row("best", rank=1, compare_key="a" * 64, runtime="openvino"),
        row("other", rank=2, compare_key="a" * 64),
        row("shaky", rank=3, compare_key="a" * 64, stable=False, shape="dyn"),
        row("bad", status="failed", failed_stage="build", reason="no \x1b[31mkernel", model="z"),
    ]
    leaderboard.write(rows, tmp_path, "s")
    return tmp_path


def test_best_unsteady_and_failed_rows_are_coloured_in_a_terminal(place: Path) -> None:
    lines = in_terminal(place).splitlines()
    styled = {line[: line.index("m") + 1]: line for line in lines if line.startswith("\x1b")}
    texts = {code: re.sub(r"\x1b\[[0-9;]*m", "", line) for code, line in styled.items()}
    assert {code: text.split()[1] for code, text in texts.items()} == {
        "\x1b[1m": "runtime", "\x1b[1;32m": "openvino", "\x1b[33m": "onnxruntime",
        "\x1b[31m": "onnxruntime",
    }  # fmt: skip
    assert all(line.endswith("\x1b[0m") for line in styled.values())
    assert any("no \\x1b[31mkernel" in line for line in lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "variables", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, False),
        (None, {}, False),
    ],
)
def test_no_colours_where_they_are_not_wanted(
    out: io.StringIO | None,
    variables: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", out and PlainStream(out))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **variables}.items():
        monkeypatch.setenv(name, value)
    text = table(("text", "n"), [("a", "1")], (False, True), styles=["red"])
    assert ("\x1b" in text) is coloured
    assert "\x1b" not in table(("text", "n"), [("a", "1")], (False, True))


def test_styles_pass_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", PlainStream(out))
    show("\x1b[1;32mgood\x1b[0m \x1b[2J \x1b]0;t\x07 \x1b[?25l")
    assert out.getvalue() == "\x1b[1;32mgood\x1b[0m \\x1b[2J \\x1b]0;t\\x07 \\x1b[?25l\n"


def test_every_line_of_a_folded_row_has_its_style(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a long text of many words", "1"), ("b", "2")]
    plain_lines = table(("text", "n"), rows, (False, True), width=16).splitlines()
    monkeypatch.setattr(sys, "stdout", Terminal())
    for name, value in {"TERM": "xterm", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    text = table(("text", "n"), rows, (False, True), width=16, styles=("red", ""))
    assert [line.startswith("\x1b[31m") for line in text.splitlines()[2:]] == [True, True, False]
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    assert lines == plain_lines

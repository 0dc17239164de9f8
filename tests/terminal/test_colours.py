"""Colours of a table: in a terminal alone, not against NO_COLOR; no other code is let through."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import PROJECT
from rows import row

from farm.results import leaderboard, tables
from farm.terminal import PlainStream
from farm.terminal import tables as terminal_tables
from farm.terminal.colours import has_colours, painted, show
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
    coloured = {line[: line.index("m") + 1]: line for line in lines if line.startswith("\x1b")}
    assert {code: line.split()[1] for code, line in coloured.items()} == {
        "\x1b[1;32m": "openvino", "\x1b[33m": "onnxruntime", "\x1b[31m": "onnxruntime",
    }  # fmt: skip
    assert all(line.endswith("\x1b[0m") for line in coloured.values())
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
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **variables}.items():
        monkeypatch.setenv(name, value)
    assert has_colours() is coloured


def test_nothing_but_the_codes_of_styles_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", PlainStream(out))
    show(painted("good", "best") + " \x1b[2J \x1b[32m")
    assert out.getvalue() == "\x1b[1;32mgood\x1b[0m \\x1b[2J \\x1b[32m\n"


def test_every_line_of_a_folded_row_has_its_style() -> None:
    rows = [("a long text of many words", "1"), ("b", "2")]
    lines = table(("text", "n"), rows, (False, True), width=16, styles=("bad", "")).splitlines()
    assert [line.startswith("\x1b[31m") for line in lines] == [False, False, True, True, False]
    plain_lines = table(("text", "n"), rows, (False, True), width=16).splitlines()
    assert [line.replace("\x1b[31m", "").replace("\x1b[0m", "") for line in lines] == plain_lines


def test_a_wide_terminal_shows_more_columns_and_no_line_is_wrapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = {"measured_at": "2026-11-30T01:51:33Z", "build_s": 1.5, "latency_p90_ms": 11.0}
    device = "a processor of a long name (avx2 avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16)"
    rows = [row(name, **more, runtime_version="1.31", device=device) for name in "ab"]
    shown = {}
    for columns in (80, 110, 200):
        for module in (tables, terminal_tables):
            monkeypatch.setattr(module, "terminal_width", lambda columns=columns: columns)
        lines = tables.render(rows, "table").splitlines()
        assert max(map(len, lines)) <= columns
        (headings,) = (line for line in lines if line.startswith("model"))
        shown[columns] = headings.split()
    assert shown[110][: len(shown[80])] == shown[80]
    assert len(shown[80]) < len(shown[110]) < len(shown[200])
    assert shown[200][-2:] == ["measured", "(UTC)"]

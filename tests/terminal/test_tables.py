"""Tables as text: what is folded where, that nothing is lost or steers the terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.terminal.tables import fields, table

HEADINGS, NUMERIC = ("model", "box AP"), (False, True)
ROWS = [("mask_rcnn_r50_fpn", "0.5000"), ("ssd [b]:smile:", "-")]


def test_a_table_in_a_pipe_is_as_wide_as_its_texts() -> None:
    assert table(HEADINGS, ROWS, NUMERIC).splitlines() == [
        "model              box AP",
        "-----------------  ------",
        "mask_rcnn_r50_fpn  0.5000",
        "ssd [b]:smile:          -",
    ]
    long = table(HEADINGS, [("m" * 300, "0.1")], NUMERIC).splitlines()
    assert long[2] == "m" * 300 + "    0.1"


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "20"}])
def test_no_variable_changes_what_a_pipe_gets(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = table(HEADINGS, [*ROWS, ("m" * 300, "1")], NUMERIC)
    assert max(map(len, text.splitlines())) == 307 and "\x1b" not in text


def test_gaps_are_narrower_before_a_text_is_folded_and_numbers_never_are() -> None:
    assert table(HEADINGS, ROWS, NUMERIC, width=24).splitlines()[2] == "mask_rcnn_r50_fpn 0.5000"
    assert table(HEADINGS, ROWS, NUMERIC, width=20).splitlines()[2:4] == [
        "mask_rcnn_r50 0.5000",
        "_fpn",
    ]
    longer = [("abcdefghij", "123456789.1234")]
    assert table(HEADINGS, longer, NUMERIC, width=23).splitlines()[2:] == [
        "abcdefgh 123456789.1234",
        "ij",
    ]
    wide = table(HEADINGS, ROWS, NUMERIC, width=25).splitlines()
    assert table(HEADINGS, ROWS, NUMERIC, width=120).splitlines() == wide


def test_what_is_too_wide_for_a_terminal_is_divided_by_the_rows_numbers() -> None:
    rows = [(*row, "1.00", "fixed") for row in ROWS]
    found = table((*HEADINGS, "p50 ms", "shape"), rows, (*NUMERIC, True, False), width=21)
    assert found.splitlines() == [
        "# model",
        "- -----------------",
        "1 mask_rcnn_r50_fpn",
        "2 ssd [b]:smile:",
        "",
        "# box AP p50 ms shape",
        "- ------ ------ -----",
        "1 0.5000   1.00 fixed",
        "2      -   1.00 fixed",
    ]
    narrower = table((*HEADINGS, "p50 ms", "shape"), rows, (*NUMERIC, True, False), width=20)
    assert narrower.splitlines()[5:] == [
        "# box AP p50 ms",
        "- ------ ------",
        "1 0.5000   1.00",
        "2      -   1.00",
        "",
        "# shape",
        "- -----",
        "1 fixed",
        "2 fixed",
    ]


def test_wide_characters_line_up() -> None:
    lines = table(("模", "n"), [("模型", "1"), ("ab", "2")], NUMERIC).splitlines()
    assert lines[2:] == ["模型  1", "ab    2"]


def test_a_table_without_rows_is_its_headings() -> None:
    assert table(HEADINGS, [], NUMERIC).splitlines() == ["model  box AP", "-----  ------"]


def test_values_stand_under_one_another_and_are_never_folded() -> None:
    path = "/" + "x" * 200
    assert fields([("why", "one\ntwo"), ("engine", path)]).splitlines() == [
        "  why     one", "          two", f"  engine  {path}",
    ]  # fmt: skip


def test_nothing_in_a_cell_steers_the_terminal() -> None:
    for text in (
        table(("\x1b[2J", "b"), [("a\nb\x07", "\u202e")], NUMERIC),
        fields([("\r", "\x9b")]),
    ):
        assert all(one.isprintable() or one == "\n" for one in text)
        assert "\\x" in text


SHOW = f"from farm.terminal.tables import table; print(table({HEADINGS!r}, {ROWS!r}, {NUMERIC!r}))"


@pytest.mark.parametrize(("columns", "lines"), [(80, 4), (20, 6)])
def test_a_table_on_a_terminal_has_its_width(columns: int, lines: int) -> None:
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", SHOW]
    subprocess.run(command, stdout=writer, env=variables, cwd=PROJECT, check=True)
    os.close(writer)
    found = os.read(reader, 10_000).decode().splitlines()
    os.close(reader)
    assert len(found) == lines and max(map(len, found)) <= columns


def test_a_cell_of_several_lines_leaves_the_others_of_its_row_empty_below() -> None:
    rows = [("one two three four", "1"), ("short", "2")]
    assert table(("name", "n"), rows, NUMERIC, width=11).splitlines() == [
        "name      n",
        "--------- -",
        "one two   1",
        "three",
        "four",
        "short     2",
    ]


def test_equal_texts_of_many_rows_are_laid_out_alike() -> None:
    lines = table(HEADINGS, [*ROWS] * 1000, NUMERIC).splitlines()
    assert len(lines) == 2002 and lines[2:] == lines[2:4] * 1000


def test_rich_is_imported_only_where_texts_are_folded_or_not_ascii(tmp_path: Path) -> None:
    code = (
        "import sys, farm.terminal.tables, farm.results.tables, farm.cli.plan\n"
        "farm.terminal.tables.table(['a'], [['b']], [False], 80)\n"
        "print('rich' in sys.modules)\n"
        "farm.terminal.tables.table(['a'], [['b' * 20]], [False], 10)\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.split() == ["False", "True"]

"""Tables as text: what is folded where, that nothing is lost or steers the terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import time

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


def test_gaps_are_narrower_before_a_text_is_folded() -> None:
    assert table(HEADINGS, ROWS, NUMERIC, width=24).splitlines()[2] == "mask_rcnn_r50_fpn 0.5000"
    assert table(HEADINGS, ROWS, NUMERIC, width=20).splitlines()[2:4] == [
        "mask_rcnn_r50 0.5000",
        "_fpn",
    ]
    wide = table(HEADINGS, ROWS, NUMERIC, width=25).splitlines()
    assert table(HEADINGS, ROWS, NUMERIC, width=120).splitlines() == wide


def test_numbers_are_folded_last_and_nothing_is_cut_off() -> None:
    longer = [("abcdefghij", "123456789.1234")]
    assert table(HEADINGS, longer, NUMERIC, width=23).splitlines()[2:] == [
        "abcdefgh 123456789.1234",
        "ij",
    ]
    headings = ("model", "peak_host_bytes")
    assert table(headings, [("ssd", "12345678")], NUMERIC, width=14).splitlines() == [
        "      peak_hos",
        "model  t_bytes",
        "--------------",
        "ssd   12345678",
    ]
    assert table(("model", "mask AP"), [("onestage", "0.5")], NUMERIC, width=14).splitlines() == [
        "          mask",
        "model       AP",
        "--------------",
        "onestage   0.5",
    ]
    for width, first in ((1, 1), (3, 1), (7, 3), (12, 5)):
        lines = table(HEADINGS, longer, NUMERIC, width=width).splitlines()
        assert max(map(len, lines)) == max(width, 3)
        rule = lines.index("-" * max(width, 3))
        assert read_back(lines[:rule], first) == ["model", "boxAP"]
        assert read_back(lines[rule + 1 :], first) == ["abcdefghij", "123456789.1234"]


def read_back(lines: list[str], first: int) -> list[str]:
    """The texts of two columns without their blanks, of which the first is so wide."""
    assert {line[first : first + 1] for line in lines} <= {" ", ""}
    columns = zip(*((line[:first], line[first + 1 :]) for line in lines), strict=True)
    return ["".join("".join(column).split()) for column in columns]


def test_wide_characters_line_up() -> None:
    lines = table(("模", "n"), [("模型", "1"), ("ab", "2")], NUMERIC).splitlines()
    assert lines[2:] == ["模型  1", "ab    2"]


def test_a_table_without_rows_is_its_headings() -> None:
    assert table(HEADINGS, [], NUMERIC).splitlines() == ["model  box AP", "-----  ------"]


def test_markup_is_text() -> None:
    """rich would take `[red]` for a style, `[/]` for its end and `:smile:` for a picture."""
    row = ("[red]a[/]", "[/]", ":smile: [link=x]")
    for width in (80, None):
        assert table(("[b]", "b", "c"), [row], [False] * 3, width).splitlines() == [
            "[b]        b    c",
            "-" * 32 if width else "---------  ---  ----------------",
            "[red]a[/]  [/]  :smile: [link=x]",
        ]


def test_values_stand_under_one_another_and_are_never_folded() -> None:
    path = "/" + "x" * 200
    assert fields([("why", "one\ntwo"), ("engine", path)]).splitlines() == [
        "  why     one", "          two", f"  engine  {path}",
    ]  # fmt: skip


def test_nothing_in_a_cell_steers_the_terminal() -> None:
    for text in (
        table(("\x1b[2J", "b"), [("a\nb\x07", "\u202e")], NUMERIC),
        table(("\x1b[2J", "b"), [("a\nb\x07", "\u202e")], NUMERIC, width=80),
        table(("\x1b[2J", "b"), [("a\nb\x07", "\u202e")], NUMERIC, width=12),
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
        "-----------",
        "one two   1",
        "three",
        "four",
        "short     2",
    ]


def test_equal_texts_of_many_rows_are_laid_out_alike() -> None:
    lines = table(HEADINGS, [*ROWS] * 1000, NUMERIC).splitlines()
    assert len(lines) == 2002 and lines[2:] == lines[2:4] * 1000


def test_very_many_rows_are_fast_in_a_terminal_and_look_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, headings, numeric = [ROWS[0] * 8] * 20_000, HEADINGS * 8, NUMERIC * 8
    began = time.process_time()
    lines = table(headings, rows, numeric, width=220).splitlines()
    assert time.process_time() - began < 10  # 0.4 s
    few = table(headings, rows[:3], numeric, width=220).splitlines()
    assert lines[:1] == few[:1] and lines[2:5] == few[2:] and len(lines) == 20_002

    monkeypatch.setattr("farm.terminal.tables.color_system", lambda: "standard")
    many, some = (
        table(HEADINGS, [*ROWS] * count, NUMERIC, width=80, styles=["red", ""] * count)
        for count in (2, 600)
    )
    looks = [[one.split()[0] for one in text.splitlines()[2:6]] for text in (many, some)]
    assert looks[0][1] == looks[1][1] == "ssd"
    assert all(one[0].startswith("\x1b[31mmask_rcnn_r50_fpn") for one in looks)


def test_a_pipe_needs_no_rich_unless_texts_are_not_ascii() -> None:
    code = (
        "import sys, farm.terminal.tables, farm.results.tables.render, farm.cli.plan\n"
        "farm.terminal.tables.table(['a'], [['b' * 100]], [False], styles=['red'])\n"
        "print('rich' in sys.modules)\n"
        "farm.terminal.tables.table(['a'], [['\u6a21']], [False])\n"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.split() == ["False", "True"]

"""What is shown, exported and logged: nothing steers the terminal, computes, or tells a secret."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rows import row

from farm import terminal
from farm.cli.progress import Progress
from farm.config.loader import load_matrix
from farm.engine.estimates import Estimates
from farm.engine.remaining import TimeLeft
from farm.engine.scheduler import Outcome, StepStatus
from farm.errors import InputError, StepFailed
from farm.files import jsonfile
from farm.plan import Needs, Step, make_plan
from farm.results import leaderboard, tracking
from farm.results.kept.matrices import keep_matrix, kept_matrix, matrix_path
from farm.results.picking.answers import pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.tables.escaping import for_csv, for_markdown, shown, without_secrets
from farm.results.tables.render import render
from farm.results.tracking.follower import Tracker
from farm.run import guarded
from farm.specs import Ref
from farm.store import Store
from farm.terminal import plain, plain_lines

HURTS = "a\x1b[2J\x1b]0;t\x07\x9b31m\rb\x08\u202egnp\u2066\u2028\x00\u200b\udcff\n\tend|`<i>"
ESCAPED = (
    r"a\x1b[2J\x1b]0;t\x07\x9b31m\rb\x08\u202egnp\u2066\u2028\x00\u200b\udcff\n\tend|`<i>"
)  # fmt: skip


def harmless(text: str) -> bool:
    return all(one.isprintable() or one == "\n" for one in text)


def test_a_text_is_written_out_character_by_character() -> None:
    assert plain(HURTS) == ESCAPED and harmless(plain(HURTS))
    assert plain_lines("a\nb\x1b") == ["a", r"b\x1b"]
    for usual in ("C:\\x", "größer", "模型", "1.5 µs", "a — b", "🚀"):
        assert plain(usual) == usual


@pytest.mark.parametrize("error", [InputError(HURTS, HURTS), StepFailed(HURTS), OSError(2, HURTS)])
def test_no_error_steers_the_terminal(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def command(options: argparse.Namespace) -> int:
        print(HURTS)  # a library, or the model's own code
        sys.stderr.writelines([HURTS, HURTS])
        raise error

    assert guarded(command, argparse.Namespace()) in (1, 2)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert harmless(text.replace("\t", "").replace("\r", "")), repr(text)
        assert r"\x1b[2J" in text
    assert "farm: " in said.err


def test_no_step_steers_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    step = Step("export", "k", HURTS, None, (), (), Needs(), "")  # type: ignore[arg-type]
    with Progress([step], TimeLeft([step], Estimates(), 1)) as progress:
        progress.started(step)
        assert harmless(progress._line().plain)
        progress.ended(step, Outcome("k", StepStatus.FAILED, HURTS))
    logging.getLogger("farm.any").info(HURTS)
    assert harmless(capfd.readouterr().err.replace("\t", ""))


def test_a_log_is_kept_as_it_is_and_echoed_plainly(tmp_path: Path) -> None:
    log, data = tmp_path / "step.log", b"all \x1b[2J is\xff well\nend"
    command = [sys.executable, "-I", str(terminal.__file__), str(log)]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    assert log.read_bytes() == data and done.stderr == b""
    assert done.stdout == b"all \\x1b[2J is\\xff well\nend"


def test_no_format_steers_the_terminal() -> None:
    bad = {"model": HURTS, "device": HURTS, "sweep": HURTS, "origin": f"12345678 {HURTS}"}
    rows = [
        row(HURTS, latency_p90_ms=11.0, **bad),
        row("y", status="failed", failed_stage=HURTS, reason=HURTS, **bad),
    ]
    for form in ("table", "csv", "json", "markdown"):
        assert harmless(render(rows, form)), form
    assert harmless(pick_as_text(pick(rows, Criteria()), {"engine": HURTS}))
    assert harmless(pick_as_text(pick(rows[1:], Criteria()), {}))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_computes_nothing_of_ours(cell: str) -> None:
    assert for_csv(cell).startswith("'")
    (read,) = csv.DictReader(io.StringIO(render([row(cell, box_ap_drop=-0.25)], "csv")))
    assert read["cell"].startswith("'") and read["bbox_mAP_drop"] == "-0.25"


def test_csv_has_one_line_a_row() -> None:
    text = render([row("x", reason='two\nlines, "quoted"'), row("y")], "csv")
    assert len(text.splitlines()) == 3
    assert next(csv.DictReader(io.StringIO(text)))["reason"] == r'two\nlines, "quoted"'


def test_markdown_says_what_it_says() -> None:
    assert for_markdown("a|b\n<img src=x>`c`[d](e)") == (r"a\|b\\n&lt;img src=x&gt;\`c\`\[d\](e)")
    assert for_markdown("yolox_nano -0.0012") == "yolox_nano -0.0012"
    assert for_markdown("_x_ # y") == r"\_x\_ # y" and for_markdown("  # x") == r"\# x"
    table = render([row("x", model="a|b<script>")], "markdown").splitlines()
    unescaped = table[2].replace(r"\|", "")
    assert unescaped.count("|") == table[0].count("|") and "<" not in table[2]


ADDRESSES = {
    "http://bob:s3cr3t@host:5000/path": "s3cr3t",
    "https://s3cr3t@host": "s3cr3t",
    "postgresql://bob:s3cr3t%40x@host/db?sslmode=require": "s3cr3t@x",
    "mysql://bob:a/s3cr3t@b@host/db": "a/s3cr3t@b",
    "http://host/?password=s3cr3t&x=1": "s3cr3t",
    "http://host/#s3cr3t": "s3cr3t",
    "postgresql+psycopg2://host/db?user=bob&password=s3cr3t": "s3cr3t",
}
"""Each with its secret, as the server is sent it."""


@pytest.mark.parametrize("uri", ADDRESSES)
def test_an_address_is_shown_without_its_secrets(uri: str) -> None:
    assert "s3cr3t" not in shown(uri) and "host" in shown(uri)
    for text in (
        f"Could not parse SQLAlchemy URL from string '{uri}'",
        f"API request to {uri}/api/2.0/mlflow failed: max retries",
        f"password '{ADDRESSES[uri]}' refused",
    ):
        assert "s3cr3t" not in without_secrets(text, uri)
    assert shown("sqlite:////home/me/mlflow.db") == "sqlite:////home/me/mlflow.db"
    assert shown("http://host:5000") == "http://host:5000"


@pytest.mark.parametrize(
    "uri", ["http://bob:s3cr3t@127.0.0.1:9", "nonesuch://bob:s3cr3t@host/db?password=s3cr3t"]
)
def test_a_server_out_of_reach_tells_no_password(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    rows = [row("x", origin="here")]
    leaderboard.write(rows, tmp_path, "s")
    Tracker("s", tmp_path, Store(tmp_path / "store")).close(rows)
    said = capsys.readouterr()
    assert "could not be written" in said.err and "s3cr3t" not in said.out + said.err
    assert not any(
        "s3cr3t" in path.read_text(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file()
    )


def test_what_was_logged_is_kept_without_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonesuch://host")
    mark = tmp_path / "tracked" / "s.json"
    mark.parent.mkdir()
    for torn in ('{"uri": "http://bob:s3cr3t@host"}', "[" * 9999, "null", "[1]", '"x"', "\x00"):
        mark.write_text(torn)
        with pytest.raises(Exception, match="nonesuch"):  # what is kept is all that matters here
            tracking.log_sweep("s", [row("x")], {"x": tracking.Evidence()}, tmp_path)
        assert not mark.exists() or "s3cr3t" not in mark.read_text()


def test_a_sweeps_matrix_is_its_owners_alone(
    small_matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no variables filled in, which may be secrets; overrides may be, too."""
    monkeypatch.setenv("TOKEN", "s3cr3t")
    matrix = load_matrix(small_matrix, ["models.onestage.cfg_options={x: '${TOKEN}'}"])
    path = matrix_path(tmp_path, "small")
    path.parent.mkdir()
    path.write_text("{}")  # as an earlier version left it, for everybody to read
    keep_matrix(matrix, tmp_path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "s3cr3t" not in path.read_text() and "${TOKEN}" in path.read_text()
    command = json.loads(path.read_text())["command"]
    assert command == f"farm run {small_matrix} models.onestage.cfg_options=..."
    assert kept_matrix(tmp_path, "small").cells == matrix.cells
    assert make_plan(kept_matrix(tmp_path, "small")).steps.keys() == make_plan(matrix).steps.keys()
    monkeypatch.delenv("TOKEN")
    with pytest.raises(InputError, match="TOKEN is not set"):
        kept_matrix(tmp_path, "small")


@pytest.mark.parametrize(
    "data",
    ["", "[]", "7", "{}", '{"matrix": 3, "values": {}}', '{"matrix": "x", "values": 3}',
     '{"matrix": "x", "values": {"a": 1}}', "[" * 99_999, '{"matrix": "\\u0000", "values": {}}'],
)  # fmt: skip
def test_a_kept_matrix_that_is_none_is_refused_by_name(data: str, tmp_path: Path) -> None:
    path = matrix_path(tmp_path, "s")
    path.parent.mkdir()
    path.write_text(data)
    with pytest.raises(InputError, match="run it again") as error:
        kept_matrix(tmp_path, "s")
    assert error.value.where == str(path)


def test_json_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for bad in ("NaN", "[1e999]", "[-Infinity]", "1" * 5000, "[" * 200 + "]" * 200, "\xff"):
        path.write_text(bad, encoding="latin-1")
        with pytest.raises(ValueError):
            jsonfile.read(path)
    path.write_text("[1.5]")
    assert jsonfile.read(path) == [1.5]
    with pytest.raises(ValueError, match="larger than 3 bytes"):
        jsonfile.read(path, 3)
    with pytest.raises(OSError):
        jsonfile.read(tmp_path)
    assert Store(tmp_path).path(Ref("check", "ab")).name == "ab"


def test_texts_that_are_no_utf8_can_be_kept(tmp_path: Path) -> None:
    from farm.results import leaderboard
    from farm.results.rows import _encodable

    reason: Any = _encodable("file \udcff.png")
    leaderboard.write([row("x", status="failed", reason=reason)], tmp_path, "s")
    assert leaderboard.read(tmp_path)[0]["reason"] == r"file \udcff.png"
    assert json.loads(render(leaderboard.read(tmp_path), "json"))

"""`farm models`: its options, records and table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farm.errors import InputError
from farm.models import families, own_config, records, table
from farm.models.families import FILE, read
from farm.models.records import Record

pytestmark = pytest.mark.slow

NARROW = families.read(Path(__file__).with_name("narrow.yaml"))


# The command --------------------------------------------------------------------------------


def models(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    narrow = str(Path(__file__).with_name("narrow.yaml"))
    command = [sys.executable, "-W", "ignore", "-m", "farm", "models", "--families", narrow]
    records = ["--records", str(folder / "models.jsonl")]
    return subprocess.run(
        [*command, *records, *arguments], capture_output=True, text=True, check=False
    )


def test_command_keeps_what_it_found_and_writes_the_table(tmp_path: Path) -> None:
    asked = ("--family", "retinanet", "--opset", "13", "--runtime", "onnxruntime")
    first = models(tmp_path, *asked, "--shapes", "fixed")
    assert first.returncode == 0, first.stderr
    assert "1/1 same detector" in first.stdout
    again = models(tmp_path, *asked, "--markdown", str(tmp_path / "models.md"))
    assert "1 of 2 trials" in again.stderr, "only what is not on record"
    found = records.Records(tmp_path / "models.jsonl")
    assert {record.kind for record in found} == {"fixed", "dynamic"}
    page = (tmp_path / "models.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| retinanet "))
    assert row.count("··●·······") == 2 and "torch 2." in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--family", "retinane"], "did you mean 'retinanet'"),
        (["--opset", "21"], "--opset: cannot check 21"),
        (["--runtime", "torch"], "cannot check 'torch'"),
        (["--families", "none.yaml"], "none.yaml: not a table of models"),
        (["--records", "none/there.jsonl"], "none/there.jsonl: cannot write there: No such file"),
    ],
)
def test_wrong_words_are_named(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = models(tmp_path, *arguments)
    assert done.returncode == 2 and says in done.stderr, done.stderr


OTHER_TYPES = (
    b'{"opset": 17, "kind": "fixed", "runtime": "openvino", "key": [], "family": "x",'
    b' "config": "x", "date": "x", "versions": "x"}'
)


@pytest.mark.parametrize(
    "line", [b'{"key": 1}', b"\xff\xfe", b'{"key": "torn', b"[1]", b"[" * 99999, OTHER_TYPES]
)
def test_broken_records_are_named_with_their_line(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "models.jsonl").write_bytes(line)
    done = models(tmp_path, "--family", "retinanet", "--show")
    assert done.returncode == 2 and "models.jsonl:1: not a record" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "t.yaml: not a table of models: expected their names"),
        ("[1]", "t.yaml: not a table of models: expected their names"),
        ("a: [1\nb: }", "t.yaml:2: not valid YAML: "),
        ("\n\nssd: {}", "t.yaml:3: ssd: it has no `config`"),
        ("ssd: {config: 5}", "t.yaml:1: ssd: it has no `config`"),
        ("ssd: {config: none.py}", "t.yaml:1: ssd: config 'none.py' is neither a file nor one"),
        ("ssd: {config: ssd/ssd300_coco.py, shap: 3}", "ssd: there is no 'shap'; did you mean 'sh"),
        ("ssd: {config: ssd/ssd300_coco.py, shape: 0x0}", "t.yaml:1: ssd: not a model of the tab"),
        (
            "ssd: {config: ssd/ssd300_coco.py, layer_outputs: 7}",
            "t.yaml:1: ssd: not a model of the table",
        ),
        ("a: !!int ''", "t.yaml:1: '' is not what the tag"),
        ("a: " + "[" * 5000, "t.yaml:1: not valid YAML: nested more than"),
        ("ssd: 5", "t.yaml:1: ssd: not a model of the table"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        families.read(tmp_path / "t.yaml")
    assert told in str(error.value)


@pytest.mark.parametrize("option", ["--families", "--records"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        done = models(tmp_path, "--show", option, str(path))
        assert done.returncode == 2 and f"{path}: " in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_the_page_is_told_before_the_trials(tmp_path: Path) -> None:
    asked = ("--family", "retinanet", "--opset", "17", "--markdown")
    (tmp_path / "a").write_text("")
    for name, told in (("models.jsonl", "is read by this command"), ("a/b.md", "File exists")):
        done = models(tmp_path, *asked, str(tmp_path / name))
        assert done.returncode == 2 and told in done.stderr, done.stderr
        assert "trials" not in done.stderr
    assert (tmp_path / "models.jsonl").read_text() == ""


def test_an_option_given_twice_is_as_given_once(tmp_path: Path) -> None:
    once = ("--family", "retinanet", "--opset", "17", "--runtime", "onnxruntime")
    done = models(tmp_path, *once, *once, "--shapes", "fixed", "--shapes", "fixed")
    assert done.returncode == 0 and "1/1 same detector" in done.stdout, done.stderr


def test_a_changed_config_of_ones_own_is_another_trial(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    keys = set()
    for text, beside in (("x = 1", ""), ("x = 2", ""), (RUNS, "x = 1"), (RUNS, "x = 2")):
        path.write_text(text)
        (tmp_path / "beside.py").write_text(beside)
        own_config.used.cache_clear()
        family = replace(NARROW["retinanet"], config=str(path))
        keys.add(records.key(family, 17, "fixed", "onnxruntime"))
    assert len(keys) == 4


RUNS = "exec(open(r'{{ fileDirname }}/beside.py').read())"


def test_what_another_run_added_is_kept(tmp_path: Path) -> None:
    found = [
        records.Record(
            key=key,
            family="f",
            config="c",
            opset=17,
            kind="fixed",
            runtime="openvino",
            date="today",
            versions={},
        )
        for key in ("a", "b")
    ]
    one, other = (records.Records(tmp_path / "r.jsonl") for _ in found)
    one.add(found[0])
    other.add(found[1])
    one.tidy(["a", "b"])
    assert list(records.Records(tmp_path / "r.jsonl")) == found
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_the_tidy_form_has_a_line_for_trials_that_share_what_they_were_made_by(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.jsonl"
    kept = records.Records(path)
    for opset, date in ((11, "today"), (13, "today"), (17, "yesterday")):
        kept.add(
            records.Record(
                key=str(opset), family="f", config="c", opset=opset, kind="fixed", date=date,
                runtime="openvino", versions={"onnx": "1"}, score_diff=1.234567e-05, nodes=7,
            )
        )  # fmt: skip
    kept.tidy(["11", "13", "17"])
    assert len(path.read_text().splitlines()) == 2
    again = records.Records(path)
    assert list(again) == list(kept)
    found = again.get("13")
    assert found and (found.opset, found.date, found.score_diff) == (13, "today", 1.235e-05)
    again.add(replace(found, key="19", opset=19))
    assert [one.key for one in records.Records(path)] == ["11", "13", "17", "19"]


@pytest.mark.parametrize(
    "line",
    [
        {"family": "f", "columns": ["key", "opset"], "trials": [["1"]]},
        {"family": "f", "columns": ["key"], "trials": [["1"]]},
        {"family": "f", "trials": [["1"]]},
        {"family": "f", "columns": 1, "trials": 2},
    ],
)
def test_a_torn_line_of_trials_is_named(tmp_path: Path, line: dict[str, object]) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(InputError, match="not a record of `farm models`") as error:
        records.Records(path)
    assert error.value.where == f"{path}:1"


def test_exporters_that_write_the_same_files_count_as_one(tmp_path: Path) -> None:
    path = tmp_path / "exporters.json"
    path.write_text(json.dumps([{"exporters": ["a", "b"]}, {"exporters": ["b", "c"]}]))
    assert records.same_exporters("a", path) == {"a", "b"}
    assert records.same_exporters("b", path) == {"a", "b", "c"}
    assert records.same_exporters("d", path) == {"d"}


def test_what_the_project_has_on_record_is_shown_and_not_touched(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "farm", "models", *words], cwd=tmp_path,
            capture_output=True, text=True, check=False,
            env={**os.environ, "FARM_RESULTS": str(tmp_path / "r")},
        )  # fmt: skip

    project = Path(records.__file__).parents[2] / "docs" / "models.jsonl"
    before = project.stat().st_mtime_ns
    shown = run("--show", "--family", "ssd", "--markdown", "page.md")
    assert shown.returncode == 0 and "same detector, scores within" in shown.stdout
    assert not (tmp_path / "r").exists() and project.stat().st_mtime_ns == before
    page = (tmp_path / "page.md").read_text()
    assert re.search(r"\| ssd \| `ssd/ssd300_coco` \| [●◐]", page)
    trials = ("--family", "ssd", "--opset", "17", "--shapes", "fixed")
    run(*trials)  # does again what an older exporter wrote
    asked = run(*trials)  # on record: no trial
    assert asked.returncode == 0 and "2/2 same detector" in asked.stdout and not asked.stderr
    assert (tmp_path / "r" / "models.jsonl").stat().st_size > 100_000
    wrong = run("--show", "--records", "nowhere.jsonl")
    assert wrong.returncode == 2 and "nowhere.jsonl: no such file" in wrong.stderr
    assert not (tmp_path / "nowhere.jsonl").exists()


def test_a_package_that_was_missing_is_looked_for_again() -> None:
    from farm.models.command import _needs_trial

    def record(reason: str | None, exporter: str = records.exporter()) -> Record:
        return Record(
            opset=17, kind="fixed", runtime="onnxruntime", key="k", family="f", config="c",
            date="2026-01-01", versions={}, refused=reason is not None, reason=reason,
            exporter=exporter,
        )  # fmt: skip

    assert _needs_trial(None) and _needs_trial(
        record("it needs the package x, which is not installed")
    )
    assert not _needs_trial(record(None))
    assert _needs_trial(record(None, exporter=""))  # from before records named it
    assert _needs_trial(replace(record("the disk is full"), refused=False, temporary=True))
    assert not _needs_trial(replace(record("boxes are lost"), refused=False))
    assert _needs_trial(record(None, exporter="another"))


def test_what_an_older_exporter_wrote_is_marked_in_the_table() -> None:
    def record(opset: int, exporter: str, reason: str | None = None) -> Record:
        return Record(
            opset=opset, kind="fixed", runtime="onnxruntime", key=str(opset), family="retinanet",
            config="c", date="2026-01-01", versions={}, reason=reason, exporter=exporter,
        )  # fmt: skip

    now = records.exporter()
    found = [record(11, now), record(12, "older"), record(13, ""), record(14, "older", "lost")]
    page = table.as_markdown([NARROW["retinanet"]], found)
    assert "| ●◐◐○······ |" in page
    assert "Of 4 trials so far 3 are the same detector. 2 of them were tried with an older" in page
    assert "(2 by an older exporter)" in table.as_text([NARROW["retinanet"]], found)


def test_the_page_is_that_of_the_records() -> None:
    docs = Path(records.__file__).parents[2] / "docs"
    found = list(records.Records(docs / "models.jsonl"))
    assert (docs / "models.md").read_text() == table.as_markdown(list(read(FILE).values()), found)

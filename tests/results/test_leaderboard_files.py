"""Leaderboard files that others wrote: read as what they are, or refused by name."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rows import row

from farm.errors import InputError
from farm.results import leaderboard
from farm.results.columns import SCHEMA_VERSION
from farm.results.names import inner
from farm.results.picking.answers import pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.tables.render import FORMATS, render


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (written,) = leaderboard.write([row("x", opset=17), row("y", reason="why")], tmp_path, "s")
    return written


def rewrite(path: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    frame = pq.read_table(path, partitioning=None).to_pandas()
    found = change(frame)
    (frame if found is None else found).to_parquet(path)


def put(frame: pd.DataFrame, name: str, value: Any) -> None:
    frame[name] = [value] * len(frame)


WRONG: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "AP as text": (lambda f: put(f, "bbox_mAP", "0.9"), "column 'bbox_mAP' is of type"),
    "AP over 1": (lambda f: put(f, "bbox_mAP", 90.0), "'bbox_mAP' is 90.0, expected a number from"),
    "AP of lists": (lambda f: put(f, "bbox_mAP", [0.9]), "column 'bbox_mAP' is of type"),
    "text as numbers": (lambda f: put(f, "cell", 3), "column 'cell' is of type"),
    "bytes": (lambda f: put(f, "cell", b"\xff"), "column 'cell' is of type"),
    "latency of 0": (lambda f: put(f, "latency_p50_ms", 0.0), "expected a finite number over 0"),
    "negative latency": (lambda f: put(f, "latency_p50_ms", -1.0), "over 0"),
    "latency without throughput": (lambda f: put(f, "throughput_per_s", np.nan), "no throughput"),
    "status of no kind": (
        lambda f: put(f, "status", "great"),
        "'status' is 'great', expected one of",
    ),
    "no status": (lambda f: put(f, "status", None), "'status' is empty"),
    "a flag as text": (lambda f: put(f, "stable", "yes"), "column 'stable' is of type"),
    "negative size": (lambda f: put(f, "samples", -1), "'samples' is -1"),
    "key that climbs": (lambda f: put(f, "build_key", "../../../etc"), "expected a key of 64 hex"),
    "column missing": (lambda f: f.drop(columns="bbox_mAP"), "it has no column 'bbox_mAP'"),
    "dates": (lambda f: put(f, "bbox_mAP", pd.Timestamp(0)), "column 'bbox_mAP' is of type"),
    "nothing of ours": (lambda f: pd.DataFrame({"a": [1]}), "it has no column 'cell'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_of_other_types_is_refused_by_name(kind: str, path: Path, tmp_path: Path) -> None:
    change, said = WRONG[kind]
    rewrite(path, change)
    with pytest.raises(InputError) as error:
        leaderboard.read(tmp_path)
    assert said in error.value.message and "run its sweep again" in error.value.message
    assert error.value.where == str(path)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + 99 * b"x" + b"PAR1", b"a,b\n1,2\n"])
def test_a_file_that_is_no_parquet_is_refused_by_name(
    data: bytes, path: Path, tmp_path: Path
) -> None:
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a leaderboard that can be read") as error:
        leaderboard.read(tmp_path)
    assert error.value.where == str(path)


def test_what_is_no_file_is_refused_by_name(path: Path, tmp_path: Path) -> None:
    path.unlink()
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to("nowhere")):
        make()
        with pytest.raises(InputError) as error:
            leaderboard.read(tmp_path)
        assert error.value.where == str(path)
        path.rmdir() if path.is_dir() else path.unlink()


def set_version(path: Path, version: bytes, table: pa.Table | None = None) -> None:
    table = pq.read_table(path, partitioning=None) if table is None else table
    pq.write_table(table.replace_schema_metadata({b"schema_version": version}), path)


@pytest.mark.parametrize("version", [str(SCHEMA_VERSION + 1).encode(), b"9" * 999])
def test_a_file_of_a_newer_schema_is_refused_with_what_to_do(
    version: bytes, path: Path, tmp_path: Path
) -> None:
    set_version(path, version)
    with pytest.raises(InputError, match=r"written by a newer farm .*: update this farm") as error:
        leaderboard.read(tmp_path)
    assert f"this version reads up to {SCHEMA_VERSION}" in error.value.message
    assert "remove it" not in error.value.message and error.value.where == str(path)


def test_a_schema_version_that_is_no_number_is_refused(path: Path, tmp_path: Path) -> None:
    set_version(path, b"\xff")
    with pytest.raises(InputError, match=r"its schema_version is .* expected a whole number"):
        leaderboard.read(tmp_path)
    set_version(path, b"x" * 30)
    with pytest.raises(InputError, match=f"schema_version is '{'x' * 20}', expected a whole"):
        leaderboard.read(tmp_path)


LATER = {2: ["cosine", "postprocess"], 3: ["convert_key", "speedup_vs_fp32"], 4: ["origin"],
         5: ["box_ap_by_class"], 8: ["host", "bbox_mAP"]}  # fmt: skip


def of_version(path: Path, version: int) -> pa.Table:
    """The file's table with the names that files of this schema version have."""
    table = pq.read_table(path, partitioning=None)
    return (
        table
        if version >= 8
        else table.rename_columns([inner(name) for name in table.column_names])
    )


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_file_of_an_older_schema_is_read_beside_a_newer_one(
    version: int, path: Path, tmp_path: Path
) -> None:
    leaderboard.write([row("new", origin="1234 other", cosine=0.5)], tmp_path, "t")
    later = {name for since, names in LATER.items() if since > version for name in names}
    table = of_version(path, version)
    later &= set(table.column_names)
    set_version(path, str(version).encode(), table.drop_columns(sorted(later)))
    rows = {one["cell"]: one for one in leaderboard.read(tmp_path)}
    assert list(rows) == ["x", "y", "new"] and rows["new"]["origin"] == "1234 other"
    assert rows["x"]["origin"] == "here" and rows["x"]["postprocess"] == "graph"
    assert rows["x"]["cosine"] is None and rows["new"]["cosine"] == 0.5
    assert rows["x"]["box_ap"] == rows["new"]["box_ap"] == 0.5


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_file_without_a_column_of_its_schema_is_refused(
    version: int, path: Path, tmp_path: Path
) -> None:
    """Half a file is no older one."""
    table = of_version(path, version)
    for name in LATER.get(version, ["box_ap", "toolchain"]):
        set_version(path, str(version).encode(), table.drop_columns([name]))
        with pytest.raises(InputError, match=f"no column '{name}', as files of schema {version}"):
            leaderboard.read(tmp_path)


def test_what_pandas_wrote_is_read(path: Path, tmp_path: Path) -> None:
    """Categories, narrower numbers, and NaN for what is not known."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["runtime"] = frame["runtime"].astype("category")
        frame["bbox_mAP"] = frame["bbox_mAP"].astype("float32")
        frame["bbox_mAP_drop"] = [0, 0]
        put(frame, "latency_cov", np.nan)
        return frame.drop(columns="origin")  # it states no version: an early one may lack more

    rewrite(path, change)
    found = leaderboard.read(tmp_path)[0]
    assert found["box_ap"] == 0.5 and found["runtime"] == "onnxruntime"
    assert found["latency_cov"] is None and found["box_ap_drop"] == 0.0
    json.dumps(found, allow_nan=False)


def test_numbers_that_are_not_finite_are_none_and_all_others_stay(
    path: Path, tmp_path: Path
) -> None:
    table = pq.read_table(path, partitioning=None)
    place = table.column_names.index("latency_cov")
    for odd in (np.nan, np.inf):
        values = pa.array(np.array([odd, 0.25]), from_pandas=False)
        set_version(
            path, str(SCHEMA_VERSION).encode(), table.set_column(place, "latency_cov", values)
        )
        assert [one["latency_cov"] for one in leaderboard.read(tmp_path)] == [None, 0.25]


def test_rows_of_several_versions_are_shown_together(path: Path, tmp_path: Path) -> None:
    leaderboard.write([row("z", sweep="t", extra=1.5)], tmp_path, "t")
    for form in FORMATS:
        assert render(leaderboard.read(tmp_path), form)


VALUES: list[Any] = [None, "", "x\x1b[2J", -1, 0, 1 << 62, 1e308, -1e308, 0.5, True, [1], b"\xff"]


def test_whatever_a_file_holds_is_shown_or_refused(path: Path, tmp_path: Path) -> None:
    """Three hundred files, each with a few columns of any values: no traceback."""
    table, random_ = pq.read_table(path, partitioning=None), random.Random(1)
    shown = 0
    for _ in range(300):
        changed = table
        for name in random_.sample(table.column_names, 1):
            value = random_.choice(VALUES)
            column = pa.array([value] * len(table))
            changed = changed.set_column(table.column_names.index(name), name, column)
        pq.write_table(changed, path)
        try:
            rows = leaderboard.read(tmp_path)
        except InputError as error:
            assert error.where == str(path)
            continue
        shown += 1
        for form in FORMATS:
            assert "\x1b" not in render(rows, form)
        assert "\x1b" not in pick_as_text(pick(rows, Criteria()), {})
    assert shown > 50


def test_reading_leaves_no_threads_that_could_end_with_the_process(tmp_path: Path) -> None:
    leaderboard.write([row(f"c{number}") for number in range(2000)], tmp_path, "s")
    code = (
        "import os, sys; from pathlib import Path; from farm.results import leaderboard\n"
        "before = len(os.listdir('/proc/self/task')); leaderboard.read(Path(sys.argv[1]))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "0\n"

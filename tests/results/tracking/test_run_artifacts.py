"""Artifacts of runs in a folder: texts, copies of files, and the ends of logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.results import tracking
from farm.results.tracking import artifacts


def test_texts_and_copies_of_files_are_written_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "engine").write_bytes(b"\0plan")
    folder = tmp_path / "a folder, 100 %"
    for text in ("first", "second"):  # what is there is replaced
        artifacts.put(folder.as_uri(), {"a/b/why.log": text, "a/copy": tmp_path / "engine"})
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    assert {*map(str, found)} == {"a/b/why.log", "a/copy"}
    assert (folder / "a/b/why.log").read_text() == "second"
    assert (folder / "a/copy").read_bytes() == b"\0plan"


@pytest.mark.parametrize(("size", "shown"), [(3, 3), (10, 10), (11, 10)])
def test_of_a_log_its_end_is_shown(
    size: int, shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "MOST_LOG_BYTES", 10)
    log = tmp_path / "log"
    log.write_bytes((b"12345678901"[:size])[:-1] + b"\xff")
    assert artifacts.tail(log) == "12345678901"[size - shown : size - 1] + "\\xff"


@pytest.mark.parametrize(
    ("uri", "place", "by_tables"),
    [
        ("sqlite:////a.db", "/mlruns/1", True), ("sqlite:////a.db", "file:///mlruns/1", True),
        ("sqlite:////a.db", "s3://bucket/1", False), ("http://host", "/mlruns/1", False),
        ("postgresql://host/a", "mlflow-artifacts:/1", False),
    ],
)  # fmt: skip
def test_runs_are_written_by_tables_where_their_artifacts_are_in_a_folder(
    uri: str, place: str, by_tables: bool
) -> None:
    assert tracking._has_tables(uri, place) is by_tables

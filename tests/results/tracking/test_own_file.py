"""The database in the results: never half made, and made anew where it is broken."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import wait_for
from mlflow import MlflowClient
from rows import row

from farm.errors import InputError
from farm.results import tracking
from farm.results.tracking import own_file


@pytest.fixture
def results(tmp_path: Path, tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.read_bytes())
    return tmp_path


def log(results: Path, sweep: str = "s") -> bool:
    return tracking.log_sweep(sweep, [row("x", sweep=sweep)], {"x": tracking.Evidence()}, results)


def sweeps(path: Path) -> set[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`farm.kind` = 'sweep'")
    return {one.data.tags["farm.sweep"] for one in found}


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def torn(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def without_runs(path: Path) -> None:
    """Break the page where the table of runs begins, which nothing else reads."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'")
        ((page,), (size,)) = found.fetchone(), database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"x" * size)


BREAKS = {
    "cut in the middle": torn,
    "no SQLite": lambda path: path.write_bytes(b"x" * 4096),
    "empty": lambda path: path.write_bytes(b""),
    "garbage inside": lambda path: path.write_bytes(
        path.read_bytes()[:4096] + os.urandom(8192) + path.read_bytes()[12288:]
    ),
    "made halfway": lambda path: execute(path, "DROP TABLE runs"),
    "no version": lambda path: execute(path, "DELETE FROM alembic_version"),
    "a table that only MLflow misses": lambda path: execute(path, "DROP TABLE input_tags"),
    "a migration that cannot go on": lambda path: execute(
        path, "UPDATE alembic_version SET version_num = '451aebb31d03'"
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_database_is_moved_aside_and_made_anew(
    kind: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log(results) and not log(results)
    path = results / "mlflow.db"
    BREAKS[kind](path)
    if (
        "migration" in kind or "MLflow" in kind
    ):  # which only MLflow knows of, and it is not asked where all is logged
        (results / "tracked" / "s.json").unlink()
    data = path.read_bytes()
    (results / "mlflow.db-journal").write_bytes(b"of the broken one")
    assert log(results)
    assert sweeps(path) == {"s"}
    (aside,) = results.glob("mlflow.db.broken-*[0-9]")
    assert aside.read_bytes() == data
    assert not (results / "mlflow.db-journal").exists()  # it would spoil the new one
    (warning,) = capsys.readouterr().err.splitlines()
    assert "mlflow.db is broken (" in warning and aside.name in warning
    assert not log(results) and log(results, "t")  # what else was logged to it is forgotten
    assert sweeps(path) == {"s", "t"}


@pytest.mark.parametrize(("more", "found"), [(0, True), (-1, False)])
def test_a_large_database_is_not_read_in_whole(
    more: int, found: bool, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = results / "mlflow.db"
    without_runs(path)
    monkeypatch.setattr(own_file, "_MOST_READ_BYTES", path.stat().st_size + more)
    assert bool(own_file.fault(path)) is found


def test_a_large_database_that_is_broken_is_noticed_when_it_is_written(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results / "mlflow.db"
    without_runs(path)
    monkeypatch.setattr(own_file, "_MOST_READ_BYTES", 0)
    assert log(results) and sweeps(path) == {"s"} and not log(results)
    (aside,) = results.glob("mlflow.db.broken-*[0-9]")
    (warning,) = capsys.readouterr().err.splitlines()
    assert "malformed" in warning and aside.name in warning


def test_a_database_of_an_older_mlflow_is_migrated_with_its_runs(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alembic takes the newest version back first."""
    from alembic import command
    from mlflow.store.db import utils

    path = results / "mlflow.db"
    config = utils._get_alembic_config(f"sqlite:///{path}")
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.downgrade(config, "-1")
        except NotImplementedError:
            pytest.skip("this MLflow cannot go back")
        finally:
            engine.dispose()
    assert log(results) and sweeps(path) == {"s", "t"}
    assert not list(results.glob("*broken*")) and capsys.readouterr().err == ""


def test_a_database_of_a_newer_mlflow_is_not_touched(results: Path) -> None:
    path = results / "mlflow.db"
    execute(path, "UPDATE alembic_version SET version_num = 'newer'")
    data = path.read_bytes()
    with pytest.raises(InputError, match="of a newer MLflow"):
        log(results)
    assert path.read_bytes() == data and not list(results.glob("*broken*"))


def test_a_broken_database_of_the_users_is_not_touched(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users.db").write_bytes(b"x" * 4096)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'users.db'}")
    with pytest.raises(Exception, match="file is not a database"):
        log(results)
    assert (tmp_path / "users.db").read_bytes() == b"x" * 4096
    assert not list(tmp_path.glob("*broken*"))


MAKE = """
import sys
from pathlib import Path
from farm.results.tracking import own_file
print("begins", flush=True)
own_file.require(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", MAKE, tmp_path], stdout=subprocess.PIPE)
    wait_for(lambda: list(tmp_path.glob(".mlflow.db.*.part")) or process.poll() is not None)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    lease = tmp_path / ".mlflow.db.lease"
    past = lease.stat().st_mtime - 1000
    os.utime(lease, (past, past))  # as if its time had gone by
    own_file.require(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert own_file.fault(tmp_path / "mlflow.db") is None


@pytest.mark.slow
def test_processes_that_need_it_at_the_same_time_make_it_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]

"""The database in the results: made whole or not at all, and made anew where it is broken."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from farm.errors import InputError
from farm.failures import in_one_line
from farm.files import atomic
from farm.files.lease import Lease
from farm.results.tracking.runs import EXPERIMENT

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_MOST_READ_BYTES = 100 << 20
"""A larger database is not read in whole to see whether it is torn."""

_BESIDE = ("-journal", "-wal", "-shm")
"""Files of SQLite's beside a database, which belong to it alone."""

_MOVED = (
    "%s is broken (%s). It is now %s, and a new one has the runs of this sweep; other sweeps are"
    " logged when they are run again."
)


_NEWER = (
    "it is of a newer MLflow (version {} of the tables), and stays as it is: update MLflow, or give"
    " other --results"
)


def database_path(results: Path) -> Path:
    """Return the path of the database in the results."""
    return results / "mlflow.db"


def address(results: Path) -> str:
    """Return the address of that database, as MLflow and SQLAlchemy take it."""
    return f"sqlite:///{database_path(results)}"


def artifacts(results: Path) -> str:
    """Return the address of the folder with the artifacts of the runs in that database."""
    return (results / "mlflow-artifacts").as_uri()


def fault(path: Path) -> str | None:
    """Return what is wrong with a database, by SQLite alone; None if it is sound.

    A large one is not read in whole. Whether its tables are those of this MLflow is not asked.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as database:
            found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            missing = {"alembic_version", "experiments", "runs", "tags"} - {one[0] for one in found}
            if missing:
                return f"it has no table {min(missing)!r}"
            if not database.execute("SELECT version_num FROM alembic_version").fetchall():
                return "it states no version of its tables"
            if path.stat().st_size <= _MOST_READ_BYTES:
                (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
                return None if said == "ok" else str(said).splitlines()[-1]
    except sqlite3.OperationalError:
        raise  # such as a disk that cannot be read, or another that writes for long
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


def require(results: Path) -> None:
    """Make the database in the results if there is none, or where it is broken.

    A broken one stays under another name. One of an older MLflow is migrated, in a copy.

    Raises:
        OSError: it cannot be read or made.
        InputError: it is of a newer MLflow.
        Exception: whatever MLflow raises.
    """
    path = database_path(results)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    with Lease(results / ".mlflow.db.lease"):
        for old in results.glob(".mlflow.db.*.part*"):
            old.unlink(missing_ok=True)  # of a process that was killed, since nobody else is here
        if path.exists():
            why = fault(path) or _outdated(path)
            if why is None:
                return
            set_aside(results, why)
        _replace(path, lambda part: _made(part, results))


def set_aside(results: Path, why: str) -> None:
    """Give a broken database another name, and forget what was logged to it. Raises OSError."""
    path = database_path(results)
    aside = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
    for mark in (results / "tracked").glob("*.json"):
        mark.unlink(missing_ok=True)
    for suffix in _BESIDE:  # first: beside a new database they would be applied to it
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    log.warning(_MOVED, path, why, aside.name)


def _outdated(path: Path) -> str | None:
    """Migrate a database of an older MLflow; return why if that fails."""
    from alembic.script import ScriptDirectory

    utils = _utils()
    with closing(sqlite3.connect(path)) as database:
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    scripts = ScriptDirectory.from_config(utils._get_alembic_config(""))
    known = {script.revision for script in scripts.walk_revisions()}
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    complete = utils._all_tables_exist(engine)
    engine.dispose()
    if version not in known:
        raise InputError(_NEWER.format(version), str(path))
    if version in scripts.get_heads() and complete:
        return None
    try:
        _replace(path, lambda part: _migrated(path, part))
    except OSError:
        raise
    except Exception as error:  # of SQLAlchemy, alembic or MLflow
        why = in_one_line(error)
        return f"its tables are of version {version}, and the migration fails: {why}"
    return None


def _utils() -> Any:
    """MLflow's functions for databases, which have no types."""
    from mlflow.store.db import utils

    return utils


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        make(part)
        atomic.sync(part)
        part.replace(path)
        atomic.sync(path.parent)
    finally:
        for left in path.parent.glob(f"{part.name}*"):
            left.unlink(missing_ok=True)  # SQLite removes its own files when it is closed


def _made(part: Path, results: Path) -> None:
    from mlflow.store.tracking import sqlalchemy_store
    from sqlalchemy import event

    stores: Any = sqlalchemy_store.SqlAlchemyStore  # it has no types
    location, uri = artifacts(results), f"sqlite:///{part}"
    engine = stores._get_or_create_engine(uri)
    engine.dispose()
    event.listen(engine, "connect", _without_syncs)
    store = stores(uri, location)
    store.create_experiment(EXPERIMENT, location)
    store.engine.dispose()
    stores._engine_map.pop(uri, None)


def _without_syncs(connection: sqlite3.Connection, _: object) -> None:
    """Wait for the disk once, at the end, and not after each of a hundred migrations."""
    connection.execute("PRAGMA synchronous = OFF")


def _migrated(path: Path, part: Path) -> None:
    utils = _utils()
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{part}")
    try:
        utils._upgrade_db(engine)
        if not utils._all_tables_exist(engine):
            raise ValueError("tables are missing afterwards")
    finally:
        engine.dispose()

"""The link to a sweep's runs in MLflow's pages.

`mlflow ui` opens the page of traces, where a sweep seems to be empty.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from farm.files import jsonfile
from farm.results.tables.escaping import shown
from farm.results.tracking import own_file
from farm.results.tracking.runs import EXPERIMENT

LOCAL = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers."""

_FIRST = "1"
"""The id of the first experiment in a new database of MLflow's, after its own default."""


def lines(sweep: str, results: Path, uri: str) -> Iterator[str]:
    """Yield what is said of where a sweep is in MLflow: the link, and how to start the pages where
    no server is named. Nothing of it is secret.

    uri: as of `tracking.tracking_uri`.
    """
    experiment = _experiment(results, uri)
    if uri.lower().startswith(("http://", "https://")):
        server = _without_user(uri)
        yield f"MLflow: {link(server, experiment, sweep) if experiment else server}"
        return
    own = uri == own_file.address(results)
    place = shlex.quote(uri) if own else '"$MLFLOW_TRACKING_URI"'
    yield f"MLflow: mlflow ui --backend-store-uri {place}"
    if experiment or own:
        yield f"  then {link(LOCAL, experiment or _FIRST, sweep)}"


def link(server: str, experiment: str, sweep: str) -> str:
    """Return the address of a sweep's runs as a table, the fastest first."""
    order = "orderByKey=" + quote("metrics.`latency_p50_ms`", safe="") + "&orderByAsc=true"
    only = "searchFilter=" + quote(f"params.sweep = '{sweep}'", safe="")
    query = f"workflowType=machine_learning&{order}&{only}"
    return f"{server}/#/experiments/{experiment}/runs?{query}"


def _without_user(uri: str) -> str:
    """The server's address without user, password, query and fragment.

    What stands before the last @ is not shown: a password may hold any character.
    """
    scheme, _, rest = uri.partition("://")
    place = re.split("[?#]", rest.rpartition("@")[2])[0]
    return f"{scheme}://{place}".rstrip("/")


def _experiment(results: Path, uri: str) -> str | None:
    """The id of the farm's experiment, without MLflow: by what was noted of a sweep that was logged
    there, or in the own database. None where neither knows it."""
    for path in sorted((results / "tracked").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = jsonfile.read(path)
            if note["server"] == shown(uri):
                return str(int(note["experiment"]))
    database = own_file.database_path(results)
    if uri != own_file.address(results) or not database.is_file():
        return None
    address = f"{database.as_uri()}?mode=ro"
    # A database that is broken, or that another process makes right now.
    with suppress(sqlite3.Error, TypeError), closing(sqlite3.connect(address, uri=True)) as own:
        found = own.execute("SELECT experiment_id FROM experiments WHERE name = ?", [EXPERIMENT])
        return str(found.fetchone()[0])
    return None

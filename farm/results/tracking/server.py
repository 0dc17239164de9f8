"""Write runs by MLflow's client, to a server or a database of the user's.

A new run takes three calls: it is created with its tags, gets its params, metrics and digest in
one, and is ended. What a run has already is asked only where its cell has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from farm.results.tracking.runs import DIGEST, EXPERIMENT, PARENT, SUPERSEDED, Content, Known

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_AT_ONCE = 8
"""Runs that are written at the same time to a server, where most of a call is waiting."""


class Server:
    """The experiment of the farm on an MLflow server, or in a database that the user has named."""

    def __init__(self, uri: str) -> None:
        # So a server that is down is noticed in seconds, not minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
        from mlflow import MlflowClient

        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._threads = _AT_ONCE if uri.startswith("http") else 1
        found = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment = str(
            found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        )

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none."""
        query = f"tags.`farm.sweep` = '{sweep.name}' and tags.`farm.kind` = 'sweep'"
        if found := self._client.search_runs([self._experiment], query, max_results=1):
            return str(found[0].info.run_id)
        return self._created(sweep, {})

    def children(self, parent: str) -> dict[str, Known]:
        """Return the runs of the sweep's cells that no other supersedes."""
        found: dict[str, Known] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], f"tags.`{PARENT}` = '{parent}'", page_token=token
            )
            for run in page:  # the newest first
                tags = run.data.tags
                if (cell := tags.get("farm.cell")) and SUPERSEDED not in tags:
                    found.setdefault(cell, Known(str(run.info.run_id), tags.get(DIGEST, "")))
            if not (token := page.token):
                return found

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""
        pool = ThreadPoolExecutor(self._threads, "mlflow")
        try:
            written = pool.map(lambda one: self._write(parent, one, known.get(one.name)), cells)
            return dict(zip((one.name for one in cells), written, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)

    def finish(self, parent: str, sweep: Content) -> None:
        """Write the content of the sweep's own run."""
        self._log(parent, sweep, list(sweep.tags))

    def _write(self, parent: str, cell: Content, known: Known | None) -> Known:
        old = self._client.get_run(known.run) if known else None
        if old and cell.fits(old.data.params, list(old.data.metrics)):
            self._clear_tags(old, cell)
            self._log(old.info.run_id, cell, list(cell.tags))
            return Known(old.info.run_id, cell.digest)
        new = self._created(cell, {PARENT: parent})
        self._log(new, cell, [DIGEST])
        if old:
            self._client.set_tag(old.info.run_id, SUPERSEDED, new)
        return Known(new, cell.digest)

    def _created(self, content: Content, more: Mapping[str, str]) -> str:
        tags = {name: text for name, text in content.tags.items() if name != DIGEST}
        run = self._client.create_run(
            self._experiment, tags={**more, **tags}, run_name=content.name
        )
        return str(run.info.run_id)

    def _log(self, run: str, content: Content, tags: Sequence[str]) -> None:
        """Log params, metrics and these tags, and end the run where its content has ended."""
        from mlflow.entities import Metric, Param, RunTag

        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            run,
            metrics=[Metric(name, value, now, 0) for name, value in content.metrics.items()],
            params=[Param(name, value) for name, value in content.params.items()],
            tags=[RunTag(name, content.tags[name]) for name in tags],
        )
        if content.status == "RUNNING":
            self._client.update_run(run, status="RUNNING")
        else:
            self._client.set_terminated(run, content.status)

    def _clear_tags(self, run: Run, cell: Content) -> None:
        """Remove tags that no longer hold, such as a failure's reason."""
        for name in run.data.tags:
            if name.startswith("farm.") and name not in cell.tags:
                self._client.delete_tag(run.info.run_id, name)

"""Write runs by MLflow's client, to a server or a database of the user's.

A new run takes three calls: it is created with its tags, gets its params, metrics and digest in
one, and is ended; its engine as a model takes four more. What a run has already is asked only where
its cell has changed.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from farm.failures import in_one_line
from farm.results.tables.escaping import without_secrets
from farm.results.tracking import artifacts
from farm.results.tracking.models import CONTEXT, EXTERNAL, SOURCE_TYPE, mlmodel
from farm.results.tracking.runs import (
    DIGEST,
    EXPERIMENT,
    OWN_TAGS,
    PARENT,
    SUPERSEDED,
    Content,
    Known,
    now_ms,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from farm.results.tracking.runs import Dataset

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 8
"""Runs that are written at the same time to a server, where most of a call is waiting."""


class Server:
    """The experiment of the farm on an MLflow server, or in a database that the user has named."""

    def __init__(self, uri: str) -> None:
        # So a server that is down is noticed in seconds, not minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
        from mlflow import MlflowClient

        self._uri = uri
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._threads = _MOST_AT_ONCE if uri.startswith("http") else 1
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            found = self._client.get_experiment(self._client.create_experiment(EXPERIMENT))
        self.experiment = str(found.experiment_id)
        self.location = str(found.artifact_location)
        self._keeps_files = True

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none."""
        query = f"tags.`farm.sweep` = '{sweep.cell}' and tags.`farm.kind` = 'sweep'"
        if found := self._client.search_runs([self.experiment], query, max_results=1):
            return str(found[0].info.run_id)
        return self._created(sweep, {})

    def children(self, parent: str) -> dict[str, Known]:
        """Return the run of each of the sweep's cells, and remove the others that a cell has."""
        found, old = dict[str, Known](), dict[str, str]()
        for run in self._under(parent):  # the newest first
            tags, own = run.data.tags, str(run.info.run_id)
            if (cell := tags.get("farm.cell")) is None:
                continue
            if by := tags.get(SUPERSEDED):
                old[own] = by
            elif cell in found:
                old[own] = found[cell].run
            else:
                found[cell] = Known(own, tags.get(DIGEST, ""))
        for run_id, new in old.items():
            self._retire(self._client.get_run(run_id), new)
        return found

    def _under(self, parent: str) -> Iterator[Run]:
        """All runs whose parent this is, the newest first."""
        query, token = f"tags.`{PARENT}` = '{parent}'", None
        while True:
            page = self._client.search_runs([self.experiment], query, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""
        pool = ThreadPoolExecutor(self._threads, "mlflow")
        try:
            written = pool.map(lambda one: self._write(parent, one, known.get(one.cell)), cells)
            return dict(zip((one.cell for one in cells), written, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)

    def finish(self, parent: str, sweep: Content) -> None:
        """Write the content of the sweep's own run."""
        self._log(parent, sweep, list(sweep.tags))

    def attach(self, run: str, files: Mapping[str, Path | str]) -> None:
        """Add artifacts to a run."""
        self._attach_to_run(run, files, f"the run {run}")

    def _attach_to_run(self, run: str, files: Mapping[str, Path | str], of: str) -> None:
        self._upload(files, of, lambda folder: self._client.log_artifacts(run, folder))

    def _attach_to_model(self, model: str, files: Mapping[str, Path | str], of: str) -> None:
        self._upload(files, of, lambda folder: self._client.log_model_artifacts(model, folder))

    def _write(self, parent: str, cell: Content, known: Known | None) -> Known:
        old = self._client.get_run(known.run) if known else None
        if old and cell.fits(old.data.params, list(old.data.metrics)):
            self._clear_tags(old, cell)
            if old.info.run_name != cell.name:
                self._client.update_run(old.info.run_id, name=cell.name)
            self._log(old.info.run_id, cell, list(cell.tags), old)
            return Known(old.info.run_id, cell.digest)
        new = self._created(cell, {PARENT: parent})
        self._log(new, cell, [DIGEST])
        if old:
            self._retire(old, new)
        return Known(new, cell.digest)

    def _retire(self, run: Run, new: str) -> None:
        """Remove a run and its models, as MLflow removes them: its pages show them no more, and it
        can restore the run. new: the run that supersedes it."""
        self._client.set_tag(run.info.run_id, SUPERSEDED, new)
        for model in run.outputs.model_outputs if run.outputs else ():
            self._client.delete_logged_model(model.model_id)
        self._client.delete_run(run.info.run_id)

    def _created(self, content: Content, more: Mapping[str, str]) -> str:
        tags = {name: text for name, text in content.tags.items() if name != DIGEST}
        run = self._client.create_run(
            self.experiment,
            start_time=content.began,
            tags={**more, **tags},
            run_name=content.name,
        )
        return str(run.info.run_id)

    def _log(self, run: str, content: Content, tags: Sequence[str], old: Run | None = None) -> None:
        """Log all that a run has but what `_created` has given it, and end it where its content has
        ended. tags: these of its tags. old: the run, where it was logged before."""
        from mlflow.entities import Metric, Param, RunTag

        now, model = now_ms(), self._model(run, content, old)
        dataset = content.dataset if model else None
        name, digest = (dataset.name, dataset.digest) if dataset else (None, None)
        metrics = [
            Metric(key, value, now, 0, model, name, digest, run)
            for key, value in content.metrics.items()
        ]
        self._attach_to_run(run, content.files, content.cell)
        self._client.log_batch(
            run,
            metrics=metrics,
            params=[Param(key, value) for key, value in content.params.items()],
            tags=[RunTag(key, content.tags[key]) for key in tags],
        )
        if content.status == "RUNNING":
            self._client.update_run(run, status="RUNNING")
        else:
            self._client.set_terminated(run, content.status, content.ended)

    def _model(self, run: str, content: Content, old: Run | None) -> str | None:
        """Log the data set that a run has read, and the engine of a cell as a model; return that
        one's id."""
        from mlflow.entities import LoggedModelOutput

        had = old.inputs.dataset_inputs if old and old.inputs else []
        if content.dataset and not had:
            self._log_dataset(run, content.dataset)
        if (engine := content.engine) is None:
            return None
        if old and old.outputs and old.outputs.model_outputs:
            known = str(old.outputs.model_outputs[0].model_id)
            self._client.set_logged_model_tags(known, dict(engine.tags))
            self._attach_to_model(known, engine.files, content.cell)
            return known
        made = self._client.create_logged_model(
            self.experiment, engine.name, run, {**engine.tags, **EXTERNAL}, dict(engine.params)
        )
        model = str(made.model_id)
        about = {"MLmodel": mlmodel(model, run, made.artifact_location)}
        self._attach_to_model(model, {**about, **engine.files}, content.cell)
        self._client.finalize_logged_model(model, "READY")
        self._client.log_outputs(run, [LoggedModelOutput(model, 0)])
        return model

    def _log_dataset(self, run: str, found: Dataset) -> None:
        """Log the data set that a run has read.

        MLflow makes a data set with the first run that has it. Of runs that are written at the same
        time one makes it, and it refuses the others, which find it when they try again.
        """
        from mlflow import MlflowException
        from mlflow.entities import Dataset, DatasetInput, InputTag

        own = Dataset(found.name, found.digest, SOURCE_TYPE, found.source)
        inputs = [DatasetInput(own, [InputTag(*CONTEXT)])]
        try:
            self._client.log_inputs(run, inputs)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            self._client.log_inputs(run, inputs)

    def _upload(
        self, files: Mapping[str, Path | str], of: str, upload: Callable[[str], object]
    ) -> None:
        """Upload files from a folder. Where one cannot be read here, as it was removed meanwhile,
        that is a warning, and `of`, the cell, has none of these."""
        if not files or not self._keeps_files:
            return
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                artifacts.put(Path(folder).as_uri(), files)
                self._send(folder, upload)
        except OSError as error:
            log.warning(f"MLflow has no files of {of}: {in_one_line(error)}")

    def _send(self, folder: str, upload: Callable[[str], object]) -> None:
        """Upload a folder. Where the server's artifacts cannot be written from here, as without the
        credentials of its bucket, that is one warning: runs and models are there without files."""
        try:
            upload(folder)
        except Exception as error:  # of whatever keeps the server's artifacts
            self._keeps_files = False
            why = without_secrets(in_one_line(error), self._uri)
            log.warning(f"MLflow has the runs without their files: {why}")

    def _clear_tags(self, run: Run, cell: Content) -> None:
        """Remove tags that no longer hold, such as a failure's reason."""
        for name in run.data.tags:
            if name.startswith(OWN_TAGS) and name not in cell.tags:
                self._client.delete_tag(run.info.run_id, name)

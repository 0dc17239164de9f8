"""Runs that several processes write to one place at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow import MlflowClient

from farm.results.tracking.runs import DIGEST, Content, Dataset
from farm.results.tracking.server import Server

RUNS, DATASETS = 8, 4


def test_runs_that_make_a_data_set_at_the_same_time_all_have_it(tmp_path: Path) -> None:
    """MLflow refuses all but one of them; one round of it seldom shows that."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    server, client = Server(uri), MlflowClient(uri)
    parent = server.parent(content("all", None))
    with ThreadPoolExecutor(RUNS) as threads:
        for number in range(DATASETS):
            dataset = Dataset("shapes", f"{number:036}", "{}")
            cells = [content(f"{number}.{run}", dataset) for run in range(RUNS)]
            for written in threads.map(lambda one: server.write(parent, [one], {}), cells):
                (known,) = written.values()
                (read,) = client.get_run(known.run).inputs.dataset_inputs
                assert read.dataset.digest == dataset.digest


def content(cell: str, dataset: Dataset | None) -> Content:
    return Content(cell, cell, {}, {}, {DIGEST: cell}, "FINISHED", dataset=dataset)

"""Where the results of a scenario lie: in a folder, or in an object store without one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chaos.cluster import Cluster
from chaos.service import Service
from chaos.steps import FolderLog, ObjectLog, StepLog
from chaos.sweeps import Rows, rows, rows_of
from farm.cli.results import Results
from farm.engine.claims import EXPIRES_S
from farm.store import Store
from farm.store.opening import open_store, own_folder
from farm.store.remote import claims
from farm.store.remote.claims import ObjectClaims


class NoFolder(Exception):
    """The results lie in no folder."""


class Place(Protocol):
    """Where the results of a scenario lie."""

    @property
    def address(self) -> str:
        """The place as `--results` takes it."""
        ...

    @property
    def expires_s(self) -> float:
        """For how many seconds a sweep whose driver was killed counts as running."""
        ...

    @property
    def folder(self) -> Path:
        """The folder of the results. Raises NoFolder."""
        ...

    def rows(self, sweep: str) -> Rows:
        """Return the rows of a sweep."""
        ...

    def log(self, stages: Mapping[str, str]) -> StepLog:
        """Begin to watch the steps that are run. stages: theirs, by key."""
        ...

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store for the block."""
        ...

    def left(self) -> list[str]:
        """Return what sweeps that have ended should not have left."""
        ...


@dataclass(frozen=True)
class FolderPlace:
    """Results in a folder that all nodes share."""

    folder: Path
    expires_s: float = 0.0  # its lock ends with the driver

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.folder)

    def rows(self, sweep: str) -> Rows:
        """Return the rows of a sweep."""
        return rows(self.folder, sweep)

    def log(self, stages: Mapping[str, str]) -> StepLog:
        """Begin to watch the steps that are run."""
        return FolderLog(self.folder / "store", stages)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store for the block."""
        yield Store(self.folder / "store")

    def left(self) -> list[str]:
        """Find working folders, leases and partial files."""
        store = self.folder / "store"
        found = [*store.glob("tmp/*"), *store.glob("claims/*")]
        found += [*self.folder.rglob("*.part"), *self.folder.rglob("*.lease")]
        return [str(path) for path in found]


class ObjectPlace:
    """Results in S3: each node has a folder of its own for what its steps read and make."""

    expires_s = claims.EXPIRES_S + 3

    def __init__(self, service: Service, cluster: Cluster) -> None:
        self._service, self._cluster = service, cluster
        self.address = f"s3://{service.bucket()}/results"

    @property
    def folder(self) -> Path:
        """There is none."""
        raise NoFolder(self.address)

    def rows(self, sweep: str) -> Rows:
        """Return the rows of a sweep."""
        with self._environment():
            return rows_of(Results.at(self.address).of_sweep(sweep, "*"))

    def log(self, stages: Mapping[str, str]) -> StepLog:
        """Begin to watch the steps that are run, in the folders of all nodes."""
        folders = []
        for cache in self._cluster.caches():
            with self._environment(FARM_CACHE=str(cache)):
                folders.append(own_folder(f"{self.address}/store") / "store")
        return ObjectLog(folders, stages, self._service.published)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store for the block."""
        with self._environment():
            yield open_store(f"{self.address}/store")

    def left(self) -> list[str]:
        """Find claims that are held; those of drivers that were killed stay, and hold nothing."""
        with self._environment():
            objects = open_store(f"{self.address}/store").objects
            own = ObjectClaims(objects)
            try:
                names = [
                    one.name for one in objects.listed("claims") if "/sessions/" not in one.name
                ]
                return [one for one in names if own.is_held_elsewhere(one.partition("/")[2])]
            finally:
                own.release_all()

    @contextmanager
    def _environment(self, **more: str) -> Iterator[None]:
        """The variables of the service for this process, which reads as one more node."""
        own = {"FARM_CACHE": str(self._cluster.folder / "cache-harness")}
        before = dict(os.environ)
        os.environ.update({**self._service.variables, **own, **more})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def longest_claim_s(place: Place) -> float:
    """Return for how long a claim in the store outlives its driver."""
    return max(place.expires_s, EXPIRES_S)

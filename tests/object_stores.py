"""Object stores in tests: a real server on this machine, and the nodes that share a store in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import Proxy

from farm.specs import Ref
from farm.store import Record, Store
from farm.store.objects import Objects
from farm.store.opening import open_objects
from farm.store.remote import opening, service
from farm.store.remote.node import NodeFolder
from farm.store.remote.runs import RunClaims
from farm.store.remote.store import RemoteStore


@dataclass(frozen=True)
class S3:
    """A server with S3's interface on this machine. variables: how the environment names it."""

    port: int

    @property
    def variables(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "farm-tests",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",  # this machine has no role
        }

    def bucket(self) -> str:
        """Make a bucket, and return its name."""
        name = f"b{time.monotonic_ns()}"
        url = f"http://127.0.0.1:{self.port}/{name}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()
        return name


@contextmanager
def served(*words: str) -> Iterator[S3]:
    """Run a server for the block. words: options of `s3_server.py`."""
    command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield S3(int(server.stdout.readline()))
        server.communicate()  # closes its standard input, with which it ends


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One server for the tests of a process."""
    with served() as found:
        yield found


@pytest.fixture(scope="session")
def s3_without_conditions() -> Iterator[S3]:
    """One that ignores the conditions of a put, as some services do."""
    with served("--without-conditions") as found:
        yield found


@pytest.fixture
def s3(s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3:
    """The server, which the environment of the test names; what it keeps of it is in a folder of
    the test."""
    use(s3_server, tmp_path, monkeypatch)
    return s3_server


def use(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a server in the environment, and nothing else of the kind."""
    opening._opened.cache_clear()  # a process has one environment
    for name in [one for one in os.environ if one.startswith(("AWS_", "FARM_CACHE"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name, value in {
        **server.variables, "FARM_CACHE": str(tmp_path / "cache"), "HOME": str(home),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


@pytest.fixture
def proxy(s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which the environment of the test names."""
    found = Proxy(s3_server.port)
    use(S3(found.port), tmp_path, monkeypatch)
    yield found
    found.close()


@contextmanager
def begun(objects: Objects, expires_s: float | None = None) -> Iterator[RunClaims]:
    own = RunClaims(objects, expires_s)
    own.begin()
    yield own
    own.release_all()


KEY, OTHER = "ab" * 32, "cd" * 32
REF, CHILD = Ref("export", KEY), Ref("build", OTHER)

Nodes = Callable[[str], RemoteStore]


@pytest.fixture
def objects(s3: S3) -> Objects:
    return open_objects(f"s3://{s3.bucket()}/results/store")


@pytest.fixture
def node(objects: Objects, tmp_path: Path) -> Nodes:
    """The store as a process of a node sees it, by the node's name."""

    def found(name: str, most: int = 1 << 30) -> RemoteStore:
        return RemoteStore(objects, NodeFolder(tmp_path / name, most), True)

    return found


ASKED = ("get", "put", "put_if_absent", "replace", "download", "entry", "listed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests of this process from now on, each with the end of the object's name."""
    found = list[str]()

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: object, place: str, *more: Any) -> Any:
            found.append(f"{name} {place.rpartition('/')[2]}")
            return real(self, place, *more)

        return call

    for name in ASKED:
        monkeypatch.setattr(
            service.ObstoreObjects, name, noting(name, getattr(service.ObstoreObjects, name))
        )
    return found


def leave(store: Store, ref: Ref = REF, text: str = "onnx", **parents: str) -> None:
    """Leave the artifact of a step in a store, as its worker does."""
    folder = store.work_folder(ref.key)
    (folder / "sub").mkdir()
    (folder / "sub" / "model.onnx").write_text(text)
    (folder / "step.log").write_text(f"log of {text}")
    record = Record(
        ref.stage, ref.key, "a op17", {}, {"x": 1}, {}, 1.5, 100, {"host": "h"}, parents=parents
    )
    store.publish(folder, record)


def content(store: Store, ref: Ref = REF) -> str:
    return (store.files(ref) / "sub" / "model.onnx").read_text()

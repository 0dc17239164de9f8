"""What a fork server imports before it forks, for all steps that use a package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from own_stage import step

from farm.engine.workers.limits import Limit
from farm.engine.workers.supervise import Supervisor
from farm.plan import Needs, Step
from farm.plan.content import packages
from farm.store import Store

LOOKS = (
    "import os, sys\n"
    "figures['imported'] = [one for one in ('torch', 'mmdet') if one in sys.modules]\n"
    "figures['server'] = os.getppid()\n"
    "figures['threads'] = len(os.listdir(f'/proc/{os.getppid()}/task'))\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    own = Supervisor()
    yield own
    own.close()


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules are found before all others."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    packages.exact_version.cache_clear()
    yield folder
    packages.exact_version.cache_clear()


def using(*names: str, code: str = LOOKS) -> Step:
    """A step that no store has, in a new process."""
    own = step(code, Needs(own_process=True))
    return replace(own, key=uuid4().hex * 2, toolchain=packages.toolchain(names))


def figures(supervisor: Supervisor, own: Step, store: Store) -> dict[str, object]:
    outcome = supervisor.run(own, str(store.root), Limit(120))
    assert outcome.status == "done", outcome.reason
    record = store.record(own.ref)
    assert record is not None
    return record.figures


def test_a_server_without_threads_has_imported_what_its_steps_use_and_another_nothing(
    store: Store, supervisor: Supervisor
) -> None:
    first = figures(supervisor, using("torch", "mmcv-full", "mmdet"), store)
    assert first["imported"] == ["torch", "mmdet"] and first["threads"] == 1
    again = figures(supervisor, using("numpy", "mmdet"), store)
    assert again["server"] == first["server"]
    assert figures(supervisor, using("numpy"), store)["imported"] == []


def test_libraries_are_imported_again_where_a_variable_has_changed(
    store: Store, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read some when they are imported; Ray sets the number of threads for each task."""
    servers = []
    for name in ("OMP_NUM_THREADS", "OMP_NUM_THREADS", "MKL_CBWR"):
        monkeypatch.setenv(name, str(len(servers) + 1))
        servers.append(figures(supervisor, using("torch"), store)["server"])
    assert servers[0] == servers[1] != servers[2]


def test_a_package_of_the_user_s_own_code_is_not_imported_before(
    store: Store, supervisor: Supervisor, first: Path
) -> None:
    """`check` must see which of its files a model uses."""
    own = first.rename(first.with_name("own"))
    sys.path[0] = str(own)
    (own / "torch.py").touch()
    assert figures(supervisor, using("torch"), store)["imported"] == []


def test_a_package_that_ends_the_process_ends_its_step(
    store: Store, supervisor: Supervisor, first: Path
) -> None:
    (first / "torch.py").write_text("import os; os._exit(3)")
    outcome = supervisor.run(using("torch", code="import torch"), str(store.root), Limit(60))
    assert outcome.status == "failed" and "exit code 3" in outcome.reason, outcome
    assert figures(supervisor, using("numpy"), store)["imported"] == []

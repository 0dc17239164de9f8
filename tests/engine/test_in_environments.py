"""Steps in environments of their own: in its Python, by its versions; what cannot be made fails."""

from __future__ import annotations

import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest
from own_stage import step, supervised

from farm.engine.checks import require_packages
from farm.engine.estimates import Estimates
from farm.engine.local import LocalExecutor
from farm.environments import locking
from farm.errors import InputError
from farm.plan import Needs, Step
from farm.plan.content.packages import exact_version
from farm.specs import Environment
from farm.store import Store

READY = Environment("own@ready", interpreter=sys.executable)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A Python beside this one, whose packages are this one's and the tests' own stage."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "own.pth").write_text("\n".join([str(Path(__file__).parent), *here]))
    return Environment("own@made", interpreter=str(folder / "bin" / "python"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def within(environment: Environment, code: str = "", **tools: str) -> Step:
    own = step(code, Needs(), tuple(tools.items()))
    return replace(own, environment=environment)


def test_a_step_runs_in_the_environment_that_it_names(
    store: Store, made: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    code = (
        "import sys\n"
        "figures.update(path=sys.path, isolated=sys.flags.isolated, python=sys.executable)"
    )
    own = within(made, code, psutil=exact_version("psutil"))
    outcome = supervised(own, store.root)
    assert outcome.status == "done", outcome.reason
    record = store.record(own.ref)
    assert record and record.figures["isolated"] == 1
    assert record.figures["python"] == made.interpreter
    assert "/nowhere" not in record.figures["path"]
    assert record.toolchain == {"psutil": exact_version("psutil")}


def test_its_versions_are_compared_in_its_own_process(store: Store, made: Environment) -> None:
    outcome = supervised(within(made, psutil="0.1"), store.root)
    assert outcome.status == "transient"
    assert f"has psutil {exact_version('psutil')}, the plan was made with 0.1" in outcome.reason


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            Environment("own@1", interpreter="/nonexistent/python"),
            "environment own@1: interpreter '/nonexistent/python' is no program here",
        ),
        (
            Environment("own@1", python=locking.python_version(), lock="farmdemo==9.9\n"),
            "environment own@1: Because ",
        ),
    ],
)
def test_one_that_cannot_be_made_here_is_tried_again_and_never_recorded(
    index: Path, store: Store, environment: Environment, expected: str
) -> None:
    own = within(environment)
    outcome = supervised(own, store.root)
    assert outcome.status == "transient" and outcome.reason.startswith(expected)
    assert store.failure(own.key) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_a_container_is_not_started_without_ray(store: Store) -> None:
    own = within(Environment("own@box", image="registry/name:1"))
    with pytest.raises(InputError, match=r"^--executor inline: own mine runs in the container im"):
        LocalExecutor(store).admit([own], Estimates())


def test_within_a_container_a_step_runs_as_it_is_there(store: Store) -> None:
    own = within(Environment("own@box", image="registry/name:1"), "figures['x'] = 1", psutil="of")
    outcome = supervised(own, store.root)
    assert outcome.status == "done", outcome.reason


def test_packages_of_an_environment_are_not_required_here(store: Store) -> None:
    require_packages([within(READY, openvino="absent")], store)
    with pytest.raises(InputError, match=r"^openvino not installed"):
        require_packages([replace(within(READY, openvino="absent"), environment=None)], store)

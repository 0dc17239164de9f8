"""How an environment is made on a machine: once, as a whole, and apart from the farm's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wheels

from farm.environments import EnvironmentFailed, command, interpreter, making, uv, variables
from farm.environments.locking import locked, python_version
from farm.specs import Environment


@pytest.fixture
def demo(index: Path) -> Environment:
    found = locked(Environment("demo@1", ("farmdemo==1.0",), python_version()))
    assert found
    return found


def run(environment: Environment, code: str) -> object:
    done = subprocess.run(
        command(environment, f"import json\n{code}"), capture_output=True, text=True, check=True,
        env=variables({**os.environ, "PYTHONPATH": "/nowhere"}),
    )  # fmt: skip
    return json.loads(done.stdout)


def test_its_python_has_its_packages_and_the_farm_and_nothing_of_this_process(
    demo: Environment,
) -> None:
    code = (
        "import farm.errors, farmdemo\n"
        "try:\n    import pytest\n    beside = True\nexcept ImportError:\n    beside = False\n"
        "print(json.dumps([farmdemo.VERSION, farm.__file__, beside, sys.path]))"
    )
    version, place, beside, path = run(demo, code)  # type: ignore[misc]
    assert (version, beside) == ("1.0", False)
    assert Path(place) == making.PACKAGE / "__init__.py"
    assert not {str(making.PACKAGE.parent), "", "/nowhere"} & set(path)


def test_it_is_made_once_and_lies_by_its_digest(
    demo: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = Path(interpreter(demo))
    assert python == making.root() / demo.digest / "bin" / "python"
    assert (python.parents[1] / "lock.txt").read_text() == demo.lock
    monkeypatch.setattr(uv, "run", lambda *words, **named: pytest.fail("uv was called"))
    assert interpreter(demo) == str(python)


def test_many_processes_make_one(demo: Environment) -> None:
    code = (
        "import pickle, sys; from farm.environments import interpreter\n"
        "print(interpreter(pickle.load(sys.stdin.buffer)))"
    )
    import pickle

    def one(_: int) -> str:
        words, text = [sys.executable, "-c", code], pickle.dumps(demo)
        return subprocess.run(words, input=text, capture_output=True, check=True).stdout.decode()

    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(one, range(3)))
    assert found == {f"{interpreter(demo)}\n"}
    names = sorted(path.name for path in making.root().iterdir())
    assert names == [demo.digest, f"{demo.digest}.lock", "locks"]


def test_what_a_killed_process_left_is_removed_and_never_used(demo: Environment) -> None:
    left = making.root() / f"{demo.digest}.0123abcd.part"
    (left / "bin").mkdir(parents=True)
    broken = making.root() / demo.digest / "bin"
    broken.mkdir(parents=True)
    (broken / "python").symlink_to("/nonexistent/python")
    assert run(demo, "import farmdemo; print(1)") == 1
    assert not left.exists()


def test_without_locks_the_first_one_is_kept(demo: Environment, tmp_path: Path) -> None:
    interpreter(demo)
    part = tmp_path / "part"
    (part / "bin").mkdir(parents=True)
    making._publish(part, making.root() / demo.digest)
    assert part.exists()
    with pytest.raises(OSError, match="No such file"):
        making._publish(tmp_path / "absent", tmp_path / "nowhere" / "x")


def test_a_package_that_is_gone_is_named(demo: Environment, index: Path) -> None:
    (index / "farmdemo-1.0-py3-none-any.whl").unlink()
    with pytest.raises(EnvironmentFailed, match=r"^environment demo@1: .*farmdemo==1.0"):
        interpreter(demo)
    assert not (making.root() / demo.digest).exists()
    assert not list(making.root().glob("*.part"))


def test_a_python_that_is_nowhere_is_named(
    demo: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    old = Environment("demo@old", demo.requirements, "3.99", lock=demo.lock)
    with pytest.raises(
        EnvironmentFailed, match=r"^environment demo@old: there is no Python 3\.99 here"
    ):
        interpreter(old)


def test_a_folder_that_cannot_be_written_is_named(
    demo: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARM_ENVIRONMENTS", str(tmp_path / "file"))
    with pytest.raises(
        EnvironmentFailed, match=r"^environment demo@1 cannot be made: File exists$"
    ):
        interpreter(demo)


def test_an_interpreter_is_taken_as_it_is() -> None:
    assert interpreter(Environment("a@b", interpreter=sys.executable)) == sys.executable
    for path in ("/nonexistent/python", "/", __file__):
        with pytest.raises(EnvironmentFailed, match=f"interpreter '{path}' is no program here"):
            interpreter(Environment("a@b", interpreter=path))
    with pytest.raises(EnvironmentFailed, match="was not resolved"):
        interpreter(Environment("a@b", ("farmdemo",)))


def test_within_a_container_it_is_this_python() -> None:
    assert interpreter(Environment("a@b", image="registry/name:1")) == sys.executable


def test_this_python_is_taken_where_its_version_fits() -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    for version in (here, python_version()):
        assert making._base(Environment("a", python=version)) == sys.executable
    assert making._base(Environment("a", python="3.1")) == "3.1"
    assert making._base(Environment("a", python=f"{here}1")) == f"{here}1"


def test_it_holds_what_its_lock_names_and_can_be_moved(demo: Environment, index: Path) -> None:
    wheels.add(index, "asks", "1.0", needs=("farmdemo",))
    bare = Environment("asks@1", python=demo.python, lock="asks==1.0\n")
    code = (
        "import asks\nfrom importlib.util import find_spec\nprint(int(not find_spec('farmdemo')))"
    )
    assert run(bare, code) == 1
    made = making.root() / bare.digest
    assert "relocatable = true" in (made / "pyvenv.cfg").read_text()

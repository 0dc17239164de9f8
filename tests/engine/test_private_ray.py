"""A Ray of one's own: what of it is there before it starts, and what is left when it does not."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("ray")

from farm.engine.cluster import private_ray, ray_thread
from farm.engine.workers.temporary import TemporaryFolder
from farm.errors import FarmError
from farm.interrupts import Interrupted

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for Ray's, with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    return folder


def test_a_ray_that_does_not_start_is_one_line_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another Ray")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    def fail(**options: object) -> None:
        (folder,) = place.iterdir()
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        given["folder"] = stat.S_IMODE(folder.stat().st_mode)
        given["token"] = stat.S_IMODE(token.stat().st_mode), len(token.read_text())
        given["variables"] = [os.environ.get(name) for name in VARIABLES]
        assert str(options["_temp_dir"]).startswith(f"{folder}/") and token.parent == folder
        assert options["include_dashboard"] is options["log_to_driver"] is False
        raise RuntimeError("The current node timed out during startup.\nThis could happen because")

    monkeypatch.setattr(private_ray.ray, "init", fail)
    with pytest.raises(FarmError) as error:
        private_ray.start()
    assert str(error.value) == (
        "Ray cannot be started on this machine: RuntimeError: The current node timed out during "
        "startup.; `farm doctor` says more, and --executor inline does without Ray"
    )
    assert given["folder"] == 0o700 and given["token"] == (0o600, 64)
    assert given["variables"][:2] == ["token", None]  # type: ignore[index]
    assert [os.environ.get(name) for name in VARIABLES] == [None, "of another Ray", None]
    assert list(place.iterdir()) == []
    place.rmdir()


def test_ray_is_put_where_the_paths_of_its_sockets_are_short_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longest = "/" + "x" * (private_ray._LONGEST_PARENT - 1)
    for wanted, taken in (("/short", "/short"), (longest, longest), (f"{longest}x", "/tmp")):
        monkeypatch.setenv("RAY_TMPDIR", wanted)
        assert private_ray._parent() == Path(taken)


@pytest.mark.parametrize("error", [TimeoutError, Interrupted])
def test_a_ray_that_does_not_end_is_killed_and_once_more_when_the_process_ends(
    error: type[BaseException], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        raise error

    def start() -> subprocess.Popen[bytes]:
        return ray_thread.call(lambda: subprocess.Popen(["sleep", "600"]))

    monkeypatch.setattr(ray_thread, "abandon", lambda: None)
    monkeypatch.setattr("ray.shutdown", hang)
    folder = TemporaryFolder("ray", place)
    monkeypatch.setattr(private_ray, "_folder", folder)
    with contextlib.ExitStack() as at_end, monkeypatch.context() as patch:
        patch.setattr(atexit, "register", at_end.callback)
        first = start()
        interrupted = pytest.raises(Interrupted)
        with interrupted if error is Interrupted else contextlib.nullcontext():
            private_ray.stop()
        assert first.wait(30) == -signal.SIGKILL and list(place.iterdir()) == []
        late = start()  # of a Ray that was just starting
        if error is Interrupted:
            folder.path.mkdir()
    assert late.wait(30) == -signal.SIGKILL and list(place.iterdir()) == []
    place.rmdir()

"""What is known of an environment: the versions of its packages, or why it cannot be had."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from farm import environments
from farm.environments import making, state
from farm.environments.locking import locked, python_version
from farm.plan.content.packages import exact_version
from farm.specs import Environment

HERE = Environment("demo@here", interpreter=sys.executable)
DEMO = Environment("demo@1", ("farmdemo==1.0",), python_version())


def test_a_ready_interpreter_is_asked_for_exact_versions(index: Path) -> None:
    found = environments.known(HERE, ("numpy", "psutil"))
    assert found and not found.failed
    assert found.versions["numpy"] == exact_version("numpy")
    names = ("psutil", "numpy", "numpy")
    assert environments.toolchain(found, "demo@here", names) == (
        ("numpy", exact_version("numpy")), ("psutil", exact_version("psutil")),
    )  # fmt: skip
    assert environments.toolchain(found, "demo@here", ("unasked",)) == (("unasked", "absent"),)


def test_an_interpreter_that_lacks_a_package_has_failed(index: Path) -> None:
    found = environments.make(HERE, ("nonesuch",))
    assert found.failed == "environment demo@here: it lacks nonesuch, which its steps need"


def test_an_interpreter_that_is_no_python_has_failed(index: Path, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho nothing of the kind >&2\nexit 3\n")
    program.chmod(0o755)
    found = environments.make(Environment("demo@odd", interpreter=str(program)), ())
    assert found.failed.startswith(
        f"environment demo@odd: {program} does not run the farm's code: nothing of the kind "
        "(it needs Python 3.10 or later)"
    )
    program.write_text("#!/bin/sh\necho no JSON\n")
    state._KNOWN.clear()
    found = environments.make(Environment("demo@odd", interpreter=str(program)), ())
    assert "JSONDecodeError" in found.failed


def test_without_making_it_only_what_an_earlier_run_found_is_known(index: Path) -> None:
    assert environments.known(DEMO, ("farmdemo",)) is None
    resolved = locked(DEMO)
    assert resolved and environments.known(DEMO, ("farmdemo",)) is None
    making.interpreter(resolved)
    assert environments.known(DEMO, ("farmdemo",)) is None
    versions = making.root() / resolved.digest / "versions.json"
    versions.write_text(json.dumps({"farmdemo": "1.0"}))
    found = environments.known(DEMO, ("farmdemo",))
    assert found == state.Known(resolved, {"farmdemo": "1.0"})
    assert environments.known(DEMO, ("farmdemo", "numpy")) is None
    versions.write_text("[torn")
    assert environments.known(DEMO, ("farmdemo",)) is None


def test_one_that_cannot_be_had_fails_once_with_its_reason(index: Path) -> None:
    wanted = Environment("demo@9", ("farmdemo==9.*",), python_version())
    found = environments.make(wanted, ("farmdemo",))
    assert found.failed.startswith("environment demo@9: Because ")
    assert environments.make(wanted, ()) is found is environments.known(wanted, ())
    assert environments.toolchain(found, "demo@9", ("a",)) == (
        ("a", "unknown until demo@9 is made"),
    )


def test_one_that_is_made_is_asked_once_for_its_versions(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = environments.make(DEMO, ("farmdemo",))
    assert dict(found.versions) == {"farmdemo": "1.0"} and not found.failed
    state._KNOWN.clear()
    monkeypatch.setattr(state, "_ask", lambda *_: pytest.fail("it was asked"))
    assert environments.known(DEMO, ("farmdemo",)) == found
    assert environments.make(DEMO, ("farmdemo",)) == found


def test_an_image_stands_for_what_is_in_it(index: Path) -> None:
    image = Environment("demo@box", image="registry/name:1")
    found = environments.known(image, ("farmdemo",))
    assert found and environments.toolchain(found, "demo@box", ("farmdemo",)) == (
        ("farmdemo", "of image registry/name:1"),
    )


@pytest.mark.parametrize("field", ["requirements", "python", "interpreter", "image", "lock"])
def test_what_decides_an_environment_is_in_its_digest(field: str) -> None:
    value = ("x",) if field == "requirements" else "x"
    assert Environment("a", **{field: value}).digest != Environment("a").digest  # type: ignore[arg-type]
    assert Environment("a").digest == Environment("b").digest
    locked_ = [Environment("a", (text,), lock="x==1") for text in ("x", "x>0")]
    assert locked_[0].digest == locked_[1].digest


def test_a_package_of_other_stages_that_was_not_asked_for_is_named(index: Path) -> None:
    found = environments.make(DEMO, ("farmdemo", "nonesuch"))
    assert found.failed == "environment demo@1: it lacks nonesuch, which its steps need"
    state._KNOWN.clear()
    assert environments.known(DEMO, ("farmdemo", "nonesuch")) is None

"""What uv is given, and what is told of its failures."""

from __future__ import annotations

import pytest

from farm.environments import EnvironmentFailed, uv

NEW = """\
warning: something else
error: No solution found when resolving dependencies
  cause: Because only openvino<=2026.4.1 is available and you require openvino==2031.2.*, we
         can conclude that your requirements are unsatisfiable.

hint: You require CPython 3.11
"""
OLD = """\
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because only openvino<=2026.4.1 is available
      and you require openvino==2031.2.*, we
      can conclude that your requirements are unsatisfiable.
"""


@pytest.mark.parametrize("text", [NEW, OLD])
def test_the_reason_is_one_line_without_what_stands_around_it(text: str) -> None:
    assert uv.reason(text) == (
        "Because only openvino<=2026.4.1 is available and you require openvino==2031.2.*, we can"
        " conclude that your requirements are unsatisfiable"
    )


def test_a_long_reason_is_cut() -> None:
    assert uv.reason("error: " + "x" * 1000) == "x" * 400 + "..."
    assert uv.reason("") == ""


def test_settings_of_pip_are_taken_over_unless_uv_has_its_own() -> None:
    found = uv._variables({"PIP_INDEX_URL": "https://one", "PYTHONPATH": "/x", "HOME": "/h"})
    assert found == {
        "PIP_INDEX_URL": "https://one", "UV_DEFAULT_INDEX": "https://one", "HOME": "/h",
    }  # fmt: skip
    own = {"PIP_FIND_LINKS": "/a", "UV_FIND_LINKS": "/b"}
    assert uv._variables(own) == own


def test_it_runs_and_fails_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uv.run("--version").startswith("uv ")
    with pytest.raises(EnvironmentFailed, match="unexpected argument '--nonsense' found"):
        uv.run("venv", "--nonsense")
    monkeypatch.setattr(uv, "_binary", lambda: "/nonexistent/uv")
    with pytest.raises(EnvironmentFailed, match=r"^uv cannot be run: No such file or directory$"):
        uv.run("--version")
    monkeypatch.setattr(uv, "_binary", lambda: "/bin/sleep")
    monkeypatch.setattr(uv, "_MINUTES", 0.001)
    monkeypatch.setattr(uv, "_FLAGS", ())
    with pytest.raises(EnvironmentFailed, match=r"did not finish within 0\.001 minutes"):
        uv.run("60")


def test_of_a_build_that_fails_the_error_is_told_and_not_its_traceback() -> None:
    text = (
        "error: Failed to build `demo==1.0`\n  cause: The build backend returned an error\n"
        "  cause: Call to `build_wheel` failed (exit status: 1)\n\n"
        "         [stdout]\n         running build\n\n         [stderr]\n"
        '           File "x.py", line 1, in y\n             ^^^^\n'
        "         RuntimeError: no compiler\n\nhint: look there\n"
    )
    assert uv.reason(text) == (
        "Failed to build `demo==1.0` The build backend returned an error Call to `build_wheel`"
        " failed (exit status: 1) RuntimeError: no compiler"
    )

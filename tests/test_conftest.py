"""What keeps tests from being skipped where they must run, and from waiting without an end."""

from __future__ import annotations

import conftest
import pytest


def test_what_ci_has_is_skipped_elsewhere_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "CI", False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        conftest.skip_but_in_ci("no browser")
    monkeypatch.setattr(conftest, "CI", True)
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        conftest.skip_but_in_ci("no browser")


def test_ci_without_a_package_of_tests_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "CI", True)
    monkeypatch.setattr(conftest, "HEAVY", set[str]())
    monkeypatch.setattr(conftest, "_OF_CI", ("json", "no_such_package"))
    with pytest.raises(pytest.UsageError, match="CI lacks no_such_package; run `make setup`"):
        conftest.pytest_configure()
    monkeypatch.setattr(conftest, "CI", False)
    conftest.pytest_configure()


def test_what_never_holds_is_not_waited_for_without_an_end() -> None:
    with pytest.raises(AssertionError, match=r"did not hold within 0\.05 s"):
        conftest.wait_for(lambda: False, 0.05)

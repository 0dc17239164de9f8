"""The version, and what the changelog says of it."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import PROJECT

import farm

HEADING = re.compile(r"^## (Unreleased|(\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d)$", re.MULTILINE)


def test_the_changelog_begins_with_this_version_or_with_what_is_not_released() -> None:
    newest = HEADING.search((PROJECT / "CHANGELOG.md").read_text())
    assert newest is not None
    released = newest[2] or ""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev0)?", farm.__version__)
    assert farm.__version__ == released or (not released and farm.__version__.endswith(".dev0"))


def test_a_version_after_the_last_release_is_a_later_one() -> None:
    releases = [found[2] for found in HEADING.finditer((PROJECT / "CHANGELOG.md").read_text())]
    known = [tuple(map(int, one.split("."))) for one in releases if one]
    assert known == sorted(known, reverse=True)
    current = tuple(map(int, farm.__version__.removesuffix(".dev0").split(".")))
    if farm.__version__.endswith(".dev0") and known:
        assert current > known[0]


def test_the_package_and_the_command_have_this_version() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    assert re.findall(r"^(?:dynamic|version) = .*$", project, re.MULTILINE) == [
        'dynamic = ["version"]',
        'version = {attr = "farm.__version__"}',
    ]
    asked = [sys.executable, "-m", "farm", "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout == f"farm {farm.__version__}\n"

"""Packages by version, and by their code where that is not as it was released."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from farm.plan.content import packages
from farm.plan.content.packages import Library, libraries_of, library_digest, own_code


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python looks into, and a cache of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(folder))
    packages.version.cache_clear()
    packages.exact_version.cache_clear()
    return folder


def install(site: Path, files: dict[str, bytes], direct_url: object = None) -> Distribution:
    """A package `farmdemo` 1.0 of these files, as pip installs it."""
    info = site / "farmdemo-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: farmdemo\nVersion: 1.0\n")
    lines = []
    for name, data in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1, 1))
        lines.append(f"{name},sha256={digest(data)},{len(data)}")
    (info / "RECORD").write_text("\n".join([*lines, "farmdemo-1.0.dist-info/RECORD,,"]))
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    return PathDistribution(info)


CODE = {"farmdemo/__init__.py": b"x = 1\n", "farmdemo/core.so": b"ELF"}


def test_a_package_as_released_is_its_version(site: Path) -> None:
    dist = install(site, CODE)
    assert own_code(dist) == ""
    assert packages.exact_version("farmdemo") == "1.0" == packages.version("farmdemo")
    assert packages.toolchain(["farmdemo", "nonesuch", "farmdemo"]) == (
        ("farmdemo", "1.0"), ("nonesuch", "absent"),
    )  # fmt: skip
    assert packages.distribution("nonesuch") is None
    found = packages.distribution("farmdemo")
    assert found is not None and found.version == "1.0"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("farmdemo/__init__.py", b"x = 2\n"),
        ("farmdemo/core.so", b"FLE"),
        ("farmdemo/core.so", b"other size"),
    ],
)
def test_code_and_libraries_that_changed_are_in_the_version(
    site: Path, name: str, data: bytes
) -> None:
    dist = install(site, CODE)
    assert own_code(dist) == ""
    (site / name).write_bytes(data)
    changed = own_code(dist)
    assert changed != ""
    version = packages.exact_version("farmdemo")
    assert version == f"1.0 with code {hashlib.sha256(changed.encode()).hexdigest()[:12]}"
    (site / name).write_bytes(data + b"#")
    assert own_code(dist) not in ("", changed)


def test_files_that_are_gone_change_nothing(site: Path) -> None:
    dist = install(site, {**CODE, "farmdemo/tests.py": b"", "farmdemo/more.so": b"1"})
    (site / "farmdemo" / "tests.py").unlink()
    (site / "farmdemo" / "more.so").unlink()
    assert own_code(dist) == ""


def test_a_build_of_ones_own_counts_by_its_python_code(site: Path) -> None:
    dist = install(site, CODE, {"url": "file:///src", "dir_info": {}})
    assert own_code(dist) == json.dumps({"farmdemo/__init__.py": digest(b"x = 1\n")})
    other = install(site, {**CODE, "farmdemo/core.so": b"another compilation"})
    assert own_code(other) == own_code(dist)
    two = {"farmdemo/a.py": b"1", "farmdemo/b.py": b"2"}
    assert own_code(install(site, two)) == own_code(install(site, dict(reversed(two.items()))))


def test_an_editable_package_counts_by_the_code_in_its_folder(site: Path, tmp_path: Path) -> None:
    project = tmp_path / "my project"
    project.mkdir()
    (project / "other.py").write_text("y = 1\n")
    url = {"url": f"file://{tmp_path}/my%20project", "dir_info": {"editable": True}}
    dist = install(site, {"__editable___farmdemo.py": b"hook"}, url)
    assert list(packages.code_places(dist)) == [project]
    before = own_code(dist)
    assert len(before) == 64
    (project / "other.py").write_text("y = 2\n")
    assert own_code(dist) != before
    (project / "notes.txt").write_text("no code")
    changed = own_code(dist)
    (project / "notes.txt").unlink()
    assert own_code(dist) == changed


@pytest.mark.parametrize("said", [None, [], {"url": "file:///x"}, {"dir_info": {"editable": True}}])
def test_what_points_to_no_folder_has_none(site: Path, said: object) -> None:
    assert list(packages.code_places(install(site, {}, said))) == []


def test_top_level_names_say_where_the_code_is(site: Path) -> None:
    dist = install(site, {"one.py": b"", "two/__init__.py": b"", "tests/__init__.py": b""})
    assert list(packages.code_places(dist)) == [site / "one.py", site / "two"]
    (site / "farmdemo-1.0.dist-info" / "top_level.txt").write_text("two\ntests\nnot-a-name\n")
    assert list(packages.code_places(dist)) == [site / "two"]


def test_libraries_are_those_that_the_record_lists(site: Path) -> None:
    dist = install(
        site, {"farmdemo/a.so": b"12", "farmdemo/b.so.1.2": b"345", "farmdemo/c.py": b""}
    )
    record = site / "farmdemo-1.0.dist-info" / "RECORD"
    record.write_text(
        record.read_text() + "\n../../lib/d.so,sha256=x,1\nfarmdemo/e.so,sha256=x,\n"
        'farmdemo/f.so,,\n"farmdemo/g.so",sha256=x,1\n'
    )
    assert libraries_of(dist) == [
        Library("farmdemo/a.so", digest(b"12"), 2),
        Library("farmdemo/b.so.1.2", digest(b"345"), 3),
    ]
    assert libraries_of(dist)[0].fits(str(site))
    assert not Library("farmdemo/a.so", "", 3).fits(str(site))
    assert Library("farmdemo/gone.so", "", 3).fits(str(site))
    most = packages.MOST_READ
    assert packages.small_enough([Library("", "", most - 1), Library("", "", 1)])
    assert not packages.small_enough([Library("", "", most), Library("", "", 1)])


def test_libraries_count_by_content_and_large_ones_by_size(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site / "farmdemo"
    install(site, {"farmdemo/a.so": b"12", "farmdemo/sub/b.so": b"3", "farmdemo/c.py": b"code"})
    before = library_digest([place])
    (place / "c.py").write_bytes(b"other")
    assert library_digest([place]) == before != ""
    (place / "a.so").write_bytes(b"21")
    changed = library_digest([place])
    assert changed != before
    monkeypatch.setattr(packages, "MOST_READ", 3)
    assert library_digest([place]) == changed
    monkeypatch.setattr(packages, "MOST_READ", 2)
    by_size = library_digest([place])
    (place / "a.so").write_bytes(b"12")
    assert library_digest([place]) == by_size != before
    assert library_digest([site / "gone"]) == "" == library_digest([place / "c.py"])
    assert library_digest([place / "a.so"]) != ""


def test_another_distribution_of_the_same_library_is_named(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages._ALTERNATIVES, "wanted", ("nonesuch", "farmdemo"))
    install(site, CODE)
    assert packages.version("wanted") == "farmdemo 1.0"
    assert packages.exact_version("wanted") == "farmdemo 1.0"
    assert "farmdemo" not in sys.modules

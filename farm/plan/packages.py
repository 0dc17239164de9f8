"""Installed packages: their versions, and whether their code is still what was installed.

A version says nothing of a package that is edited in place, installed as editable, hidden by a
folder of the same name that Python finds first, or built by its user, who may build other code
under the same version. Such a package gets a digest of its code beside its version. Read from
metadata and files, without importing anything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

from farm.plan import digests, native
from farm.plan.code import find_spec

# The same library under another distribution's name.
_ALTERNATIVES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
}

_NOT_ITS_CODE = {"test", "tests", "doc", "docs", "example", "examples", "tools", "benchmarks"}
"""Folders that some packages install beside their own, under names that everybody has."""

RELEASED = ""


@cache
def version(package: str) -> str:
    """The installed version; 'absent' if there is none."""
    found = _distribution(package)
    if found is None:
        return "absent"
    name = found[0]
    return found[1].version if name == package else f"{name} {found[1].version}"


@cache
def exact_version(package: str) -> str:
    """`version`, and a digest of the package's code where that is not as it was released."""
    found = _distribution(package)
    own = own_code(found[1]) if found else RELEASED
    if not own:
        return version(package)
    return f"{version(package)} with code {hashlib.sha256(own.encode()).hexdigest()[:12]}"


def toolchain(packages: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((package, exact_version(package)) for package in sorted(set(packages)))


def distribution(package: str) -> Distribution | None:
    """What is installed of it, perhaps under another name."""
    found = _distribution(package)
    return found[1] if found else None


def _distribution(package: str) -> tuple[str, Distribution] | None:
    for name in (package, *_ALTERNATIVES.get(package, ())):
        try:
            return name, importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def own_code(dist: Distribution) -> str:
    """A digest of all its code, where that is not what an index has under its version; else ''."""
    listed, root = dict(listed_code(dist)), os.path.realpath(str(dist.locate_file("")))
    places, libraries = list(code_places(dist)), native.listed(dist)
    if listed and all(os.path.realpath(place.parent) == root for place in places):
        small = libraries if native.small(libraries) else []
        expected = {**listed, **{one.name: one.digest for one in small}}
        paths = [f"{root}/{name}" for name in expected]
        there = [path for path in paths if os.path.isfile(path)]
        record = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()
        what = f"installed {record}"
        verdict = digests.remembered(what, there, lambda: _verdict(expected, root))
        if verdict == "as installed" and all(one.fits(root) for one in libraries):
            return _own_build(dist, listed)
    return _code_digest(places) + native.digest(places)


def _own_build(dist: Distribution, listed: dict[str, str]) -> str:
    """Of the Python code alone: each compilation gives other libraries of the same sources.

    Only what is installed from a file, a folder or a repository has this file (PEP 610).
    """
    if not dist.read_text("direct_url.json"):
        return RELEASED
    return json.dumps(listed, sort_keys=True)


def listed_code(dist: Distribution) -> Iterator[tuple[str, str]]:
    """The Python files that its RECORD lists, each with its sha256 as it stands there."""
    for line in (dist.read_text("RECORD") or "").splitlines():
        name, _, rest = line.rpartition(",sha256=")
        if name.endswith(".py") and not name.startswith(("__editable__", "..", '"')):
            yield name, rest.partition(",")[0]


def code_places(dist: Distribution) -> Iterator[Path]:
    """The files and folders of its top-level modules, where Python finds them today."""
    names = set((dist.read_text("top_level.txt") or "").split())
    names = names or {name.partition("/")[0].removesuffix(".py") for name, _ in listed_code(dist)}
    specs = [find_spec(name) for name in sorted(names - _NOT_ITS_CODE) if name.isidentifier()]
    found = [Path(spec.origin) for spec in specs if spec and spec.origin and spec.has_location]
    yield from (path.parent if path.name == "__init__.py" else path for path in found)
    if not found and (url := _project(dist)):
        yield url


def _project(dist: Distribution) -> Path | None:
    """The folder that an editable installation points to (PEP 610)."""
    try:
        said = json.loads(dist.read_text("direct_url.json") or "{}")
        editable = said.get("dir_info", {}).get("editable")
        return Path(unquote(urlparse(said["url"]).path)) if editable else None
    except (ValueError, KeyError, AttributeError):
        return None


def _verdict(listed: dict[str, str], root: str) -> str:
    """Files that are gone change nothing: images of containers leave tests and the like out."""
    for name, expected in listed.items():
        path = Path(root, name)
        if path.is_file() and _as_listed(path) != expected:
            return "changed"
    return "as installed"


def _as_listed(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _code_digest(places: Iterable[Path]) -> str:
    files = [(place, path) for place in places for path in _python_files(place)]
    return digests.remembered("code", [str(path) for _, path in files], lambda: _of_all(files))


def _python_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(
        Path(root, name)
        for root, _, names in os.walk(place)
        for name in names
        if name.endswith(".py")
    )


def _of_all(files: Iterable[tuple[Path, Path]]) -> str:
    total = hashlib.sha256()
    for place, path in files:
        total.update(f"{path.relative_to(place.parent)}\0".encode(errors="surrogateescape"))
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()

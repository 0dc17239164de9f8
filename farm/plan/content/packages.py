"""Installed packages: versions, and whether their code and libraries are as installed."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

from farm.plan.content import digests
from farm.plan.content.code import find_spec

MOST_READ = 32_000_000
"""Bytes of all libraries of one package; gigabytes would take too long for a plan."""

_LIBRARY = re.compile(r"\.(so(\.\d+)*|pyd|dll|dylib)$")
_NEVER = (".h", ".hpp", ".cuh", ".cmake", ".pyc", ".pyi", ".json", ".txt")
"""Endings of the names of most other files: no library, without a search."""

# The same library under another distribution's name; or what does its work where it is missing,
# with the same results (see `farm.datasets.coco_evaluators`).
_ALTERNATIVES = {
    "hotcoco": ("pycocotools",),
    "onnxruntime": ("onnxruntime-gpu",),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
}

_NOT_ITS_CODE = {"test", "tests", "doc", "docs", "example", "examples", "tools", "benchmarks"}
"""Folders that some packages install beside their own, under names that everybody has."""

RELEASED = ""


@dataclass(frozen=True)
class Library:
    """A library as the installer recorded it. digest: sha256 as in RECORD. size: in bytes."""

    name: str
    digest: str
    size: int

    def fits(self, root: str) -> bool:
        """Return whether it still has that size; one that was removed changes nothing."""
        path = Path(root, self.name)
        return not path.is_file() or path.stat().st_size == self.size


def libraries_of(dist: Distribution) -> list[Library]:
    """Return the libraries that its RECORD lists in folders of packages."""
    return _recorded(dist)[1]


def small_enough(libraries: Iterable[Library]) -> bool:
    """Return whether they can be read for a plan."""
    return sum(one.size for one in libraries) <= MOST_READ


def library_digest(places: Iterable[Path]) -> str:
    """Return a digest of all libraries in these folders as they are now; '' without any."""
    files = [(place, path) for place in places for path in _files(place)]
    read = sum(path.stat().st_size for _, path in files) <= MOST_READ
    parts = [
        f"{path.relative_to(place.parent)}\0{_state(path, read)}\n".encode(errors="surrogateescape")
        for place, path in files
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest() if parts else ""


def _state(path: Path, read: bool) -> str:
    return digests.of_file(path) if read else str(path.stat().st_size)


def _files(place: Path) -> Sequence[Path]:
    found = [Path(root, name) for root, _, names in os.walk(place) for name in names]
    found = [place] if place.is_file() else found
    return sorted(path for path in found if _LIBRARY.search(path.name) and path.is_file())


@cache
def version(package: str) -> str:
    """Return the installed version; 'absent' if there is none."""
    found = _distribution(package)
    if found is None:
        return "absent"
    name = found[0]
    return found[1].version if name == package else f"{name} {found[1].version}"


@cache
def exact_version(package: str) -> str:
    """Return `version`, with a digest of the package's code where it differs from the release."""
    found = _distribution(package)
    own = own_code(found[1]) if found else RELEASED
    if not own:
        return version(package)
    return f"{version(package)} with code {hashlib.sha256(own.encode()).hexdigest()[:12]}"


def toolchain(packages: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the exact version of each package, by name."""
    names = tuple(packages)
    return _by_name(names, tuple(map(exact_version, names)))


@cache
def _by_name(names: tuple[str, ...], versions: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the same tuple each time: all steps of a plan have one of a few."""
    return tuple(sorted(dict(zip(names, versions, strict=True)).items()))


def distribution(package: str) -> Distribution | None:
    """Return the installed distribution of a package, perhaps under another name."""
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
    """Return a digest of its code where that differs from the release of its version; else ''."""
    code, libraries = _recorded(dist)
    listed = dict(code)
    root = os.path.realpath(str(dist.locate_file("")))
    places = list(code_places(dist, listed))
    if listed and all(os.path.realpath(place.parent) == root for place in places):
        small = libraries if small_enough(libraries) else []
        expected = {**listed, **{one.name: one.digest for one in small}}
        paths = [f"{root}/{name}" for name in expected]
        what = hashlib.sha256(json.dumps(expected).encode()).hexdigest()
        verdict = digests.remembered(f"installed {what}", paths, lambda: _verdict(expected, root))
        if verdict == "as installed" and all(one.fits(root) for one in libraries):
            return _own_build(dist, listed)
    return _code_digest(places) + library_digest(places)


def _own_build(dist: Distribution, listed: dict[str, str]) -> str:
    """Return the digests of the Python code of a package that was not installed from an index.

    Only such packages have `direct_url.json` (PEP 610). Libraries do not count: each compilation of
    the same sources gives others.
    """
    if not dist.read_text("direct_url.json"):
        return RELEASED
    return json.dumps(listed, sort_keys=True)


def listed_code(dist: Distribution) -> Iterator[tuple[str, str]]:
    """Yield the Python files that its RECORD lists, each with its sha256 as listed."""
    yield from _recorded(dist)[0]


def _recorded(dist: Distribution) -> tuple[list[tuple[str, str]], list[Library]]:
    """Return the Python files and the libraries that its RECORD lists, of often 10,000 files."""
    code, libraries = [], []
    for line in (dist.read_text("RECORD") or "").splitlines():
        name, _, rest = line.partition(",sha256=")
        if name.endswith(".py"):
            if not name.startswith(("__editable__", "..", '"')):
                code.append((name, rest.partition(",")[0]))
        elif not name.endswith(_NEVER) and _LIBRARY.search(name):
            digest, _, size = rest.partition(",")
            if not name.startswith(("..", '"')) and size.isdecimal():
                libraries.append(Library(name, digest, int(size)))
    return code, libraries


def code_places(dist: Distribution, listed: Iterable[str] | None = None) -> Iterator[Path]:
    """Yield the files and folders of its top-level modules, where Python finds them today.

    listed: the Python files of its RECORD, where these were read.
    """
    names = set((dist.read_text("top_level.txt") or "").split())
    if not names:
        listed = dict(listed_code(dist)) if listed is None else listed
        names = {name.partition("/")[0].removesuffix(".py") for name in listed}
    specs = [find_spec(name) for name in sorted(names - _NOT_ITS_CODE) if name.isidentifier()]
    found = [Path(spec.origin) for spec in specs if spec and spec.origin and spec.has_location]
    yield from (path.parent if path.name == "__init__.py" else path for path in found)
    if not found and (url := _project(dist)):
        yield url


def _project(dist: Distribution) -> Path | None:
    """Return the folder that an editable installation points to (PEP 610)."""
    try:
        origin = json.loads(dist.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable")
        return Path(unquote(urlparse(origin["url"]).path)) if editable else None
    except (ValueError, KeyError, AttributeError):
        return None


def _verdict(listed: dict[str, str], root: str) -> str:
    """Compare files with their list. Removed ones are no change: container images omit tests."""
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

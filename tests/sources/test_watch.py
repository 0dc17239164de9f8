"""What a config looks for counts: modules in vain, sizes, links, the current folder, bytecode."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import py_compile
import sys
from collections.abc import Callable
from pathlib import Path

import mmcv
import pytest

from farm import specs
from farm.plan.content import dependencies, fingerprints, packages
from farm.plan.content.configs import config_file
from farm.sources.watch import watching

pytestmark = pytest.mark.slow

HERE = "import os, sys\nfrom pathlib import Path\nHERE = Path(r'{{ fileDirname }}')\n"
END = "\ndel os, sys, HERE, Path\n"


class Read:
    """A config in a folder, and what is seen of it when mmcv reads it in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str = "X = 1\n") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        return path

    def model(self, name: str = "c.py") -> specs.Model:
        config = config_file(name, self.folder)
        return specs.Model("m", "mmdet", config, specs.File("c.pth", ""))

    def watched(self) -> tuple[specs.Used, ...]:
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=self._read)
        child.start()
        child.join()
        assert child.exitcode == 0
        return dependencies.read(self.folder / "used")

    def _read(self) -> None:
        (self.folder / "used").unlink(missing_ok=True)
        model = self.model()
        with watching(model, self.folder / "used"):
            mmcv.Config.fromfile(model.config.path)

    def holds(self, seen: tuple[specs.Used, ...]) -> bool:
        return dependencies.holds(seen, dependencies.where(self.model()))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    (tmp_path / "project" / "site-packages").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.syspath_prepend(str(tmp_path / "project" / "site-packages"))
    monkeypatch.syspath_prepend(str(tmp_path / "project"))
    return Read(tmp_path / "project")


Change = Callable[[Read], object]


def linked(config: Read) -> None:
    for name in ("v1", "v2"):
        config.write(f"{name}/p.txt", "x")
    (config.folder / "current").symlink_to("v1")


def relinked(config: Read) -> None:
    (config.folder / "current").unlink()
    (config.folder / "current").symlink_to("v2")


def turned(config: Read) -> None:
    (config.folder / "d" / "x").unlink()
    (config.folder / "d" / "x").mkdir()


def left(config: Read) -> None:
    (config.folder / "away").mkdir(exist_ok=True)
    os.chdir(config.folder / "away")


def written(name: str, text: str = "X = 2\n") -> Change:
    return lambda config: config.write(name, text)


def nothing(_: Read) -> None:
    pass


OPTIONAL = "try:\n    import fast_x\nexcept ImportError:\n    pass\n"
IMPORTS = "custom_imports = dict(imports=['{}'], allow_failed_imports={})\n"
INNER = "try:\n    from . import fast\nexcept ImportError:\n    pass\n"

CASES: dict[str, tuple[str, Change, Change]] = {
    "a module in vain": (OPTIONAL, nothing, written("fast_x.py")),
    "a package in vain": (OPTIONAL, nothing, written("fast_x/__init__.py")),
    "a compiled module in vain": (
        OPTIONAL,
        nothing,
        written(f"fast_x{importlib.machinery.EXTENSION_SUFFIXES[0]}"),
    ),
    "a module that may fail": (IMPORTS.format("fast_x", True), nothing, written("fast_x.py")),
    "a module of a package": (
        IMPORTS.format("pk1", False),
        written("pk1/__init__.py", INNER),
        written("pk1/fast.py"),
    ),
    "a module in a folder of its own": (
        f"{HERE}sys.path.insert(0, str(HERE / 'lib'))\n{OPTIONAL}{END}",
        written("lib/other.py"),
        written("lib/fast_x.py"),
    ),
    "find_spec": (
        "import importlib.util as _u\nx = _u.find_spec('fast_x') is None\ndel _u\n",
        nothing,
        written("fast_x.py"),
    ),
    "a package's version": (
        "from importlib import metadata as _m\ntry:\n    x = _m.version('fast-x')\n"
        "except _m.PackageNotFoundError:\n    pass\ndel _m\n",
        nothing,
        written("site-packages/fast_x-1.0.dist-info/METADATA", "Name: fast-x\nVersion: 1\n"),
    ),
    "a size": (
        f"{HERE}x = (HERE / 'big.bin').stat().st_size{END}",
        written("big.bin", "123"),
        written("big.bin", "12345"),
    ),
    "what is read natively": (
        f"{HERE}x = os.path.exists(HERE / 'm.pt'){END}",
        written("m.pt", "123"),
        written("m.pt", "124"),
    ),
    "a file that becomes a folder": (
        f"{HERE}x = [e.is_dir() for e in os.scandir(HERE / 'd')]{END}",
        written("d/x"),
        turned,
    ),
    "a link": (f"{HERE}x = os.readlink(HERE / 'current'){END}", linked, relinked),
    "a link that is resolved": (
        f"{HERE}x = ((HERE / 'current').resolve() / 'p.txt').read_text(){END}",
        linked,
        relinked,
    ),
    "the current folder": (f"{HERE}x = os.path.basename(os.getcwd()){END}", nothing, left),
    "an absolute path": (
        f"{HERE}x = open(os.path.abspath('q.txt')).read(){END}", written("q.txt"), left,
    ),
    "a relative file": (f"{HERE}x = open('q.txt').read(){END}", written("q.txt"), left),
    "a relative question": (f"{HERE}x = os.path.exists('q.txt'){END}", nothing, left),
    "a relative folder": (f"{HERE}os.chdir('v1')\nx = os.listdir('.'){END}", linked, left),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_it_is_seen(name: str, config: Read) -> None:
    text, before, change = CASES[name]
    config.write("c.py", text)
    before(config)
    seen = config.watched()
    assert config.holds(seen), dependencies.changed(seen, dependencies.where(config.model()))
    change(config)
    importlib.invalidate_caches()
    packages.version.cache_clear()  # it holds for the life of a process
    packages.exact_version.cache_clear()
    assert not config.holds(seen)


@pytest.mark.parametrize(
    "text",
    [
        f"{HERE}os.chdir(HERE / 'v1')\nx = open('p.txt').read() + os.getcwd(){END}",
        f"{HERE}x = (HERE / 'v1' / 'p.txt').resolve().read_text(){END}",
        "import tempfile as _t\nwith _t.TemporaryDirectory() as _d:\n    pass\ndel _t, _d\n",
    ],
)
def test_what_does_not_depend_on_the_current_folder_holds_in_any(text: str, config: Read) -> None:
    config.write("c.py", text)
    linked(config)
    seen = config.watched()
    left(config)
    assert config.holds(seen)


def test_later_keys_have_neither_the_current_folder_nor_what_is_not_there() -> None:
    entries = [
        specs.Used("current", "", place) for place in (".", "../other")
    ] + [specs.Used("import", "fast", fingerprints.MISSING, "pk1")]  # fmt: skip
    assert dependencies.as_key(entries) == ""


def test_many_bytes_that_are_only_asked_for_count_by_their_size(
    config: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.sources.watch.seen._MOST_READ", 4)
    config.write("c.py", f"{HERE}x = [os.path.exists(HERE / one) for one in 'ab']{END}")
    config.write("a", "123")
    config.write("b", "456")
    seen = config.watched()
    assert [one.digest for one in seen if one.place == "b"] == ["3 bytes"]
    config.write("b", "457")
    assert config.holds(seen)
    config.write("b", "4567")
    assert not config.holds(seen)


def test_functions_that_were_taken_while_watched_are_called_later(config: Read) -> None:
    with watching(config.model(str(config.write("c.py"))), config.folder / "used"):
        late = os.getcwd, os.stat, os.readlink
    assert late[0] is not os.getcwd
    before = (config.folder / "used").read_bytes()
    with (config.folder / "other").open("wb") as other:  # may have the same descriptor
        late[0]()
        exec(compile("ask('late.txt')", str(config.folder / "own.py"), "exec"), {"ask": _try(late)})
        assert os.fstat(other.fileno()).st_size == 0
    assert (config.folder / "used").read_bytes() == before


def _try(functions: tuple[Callable[..., object], ...]) -> Callable[[str], None]:
    def ask(name: str) -> None:
        for function in functions[1:]:
            with pytest.raises(OSError):
                function(name)

    return ask


def test_a_linked_config_has_the_bases_beside_the_link(config: Read) -> None:
    """As mmcv reads it."""
    config.write("real/c.py", "_base_ = './b.py'\n")
    config.write("real/b.py", "x = 'real'\n")
    base = config.write("b.py", "x = 'link'\n")
    (config.folder / "c.py").symlink_to("real/c.py")
    file = config.model().config
    assert file.path == str(config.folder / "c.py")
    assert mmcv.Config.fromfile(file.path).x == "link"
    base.write_text("x = 'other'\n")
    assert config.model().config.digest != file.digest


def test_places_are_the_same_by_a_link_to_the_project(config: Read) -> None:
    config.write("c.py", f"{HERE}x = (HERE.resolve() / 'sub' / 'q.txt').read_text(){END}")
    config.write("sub/q.txt", "x")
    first = config.watched()
    link = config.folder.parent / "link"
    link.symlink_to(config.folder)
    assert dependencies.as_key(Read(link).watched()) == dependencies.as_key(first)


def stale(path: Path) -> None:
    """Bytecode of another source of the same size and time."""
    py_compile.compile(str(path))
    times = os.stat(path)
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_stale_bytecode_of_a_config_is_not_run(config: Read) -> None:
    from farm.sources.mmdet import config as configs

    config.write("c.py", "import stale_x as _s\nmodel = dict(x=_s.X)\ndel _s\n")
    stale(config.write("stale_x.py", "X = 1\n"))
    try:
        assert configs.read(config.model()).model.x == 2
    finally:
        sys.modules.pop("stale_x", None)


def test_stale_bytecode_of_a_module_is_not_run(config: Read) -> None:
    from farm.sources import module

    text = "import torch\ndef make():\n    import stale_z\n    return torch.nn.Conv2d(3, 1, 5)\n"
    path = config.write("stale_y.py", text)
    stale(path)
    stale(config.write("stale_z.py", "X = 1\n"))
    code = specs.File(str(path), "")
    own = specs.ModuleModel("m", "stale_y:make", str(config.folder), code, outputs="raw")
    try:
        made = module.load(own).module.module
        assert made.out_channels == 2 and sys.modules["stale_z"].X == 2
    finally:
        for name in ("stale_y", "stale_z"):
            sys.modules.pop(name, None)

"""What a model is made of, beside the files that its matrix names, is in the keys of its work."""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.cli.plan import as_text
from farm.config.loader import load_matrix
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome
from farm.engine.workers.perform import perform
from farm.plan import Plan, Step, make_plan
from farm.plan.content import dependencies, packages
from farm.single import inputs
from farm.single.steps import check_detector
from farm.store import Store
from farm.store.facts import facts_from
from farm.sweep import checked_plan

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
MATRIX = """\
name: used
models: {{m: {model}}}
opsets: [17]
shapes: {{fixed: {{opt: 160x160}}}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 4}}
"""
MMDET = "{config: c.py, checkpoint: c.pth}"
BASE = f"{DEMO}/onestage.py"
NET = """\
from mmdet.models.builder import NECKS
from mmdet.models.necks import FPN
from mynet.parts import WIDTH
@NECKS.register_module()
class OwnNeck(FPN):
    pass
"""
MODULE = """\
import os, torch
from pathlib import Path
HERE = Path(__file__).parent
def make():
    %s
    return torch.nn.Conv2d(3, 4, 1)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without names of classes. What checks import is imported here: they run in forks."""
    import torch

    import farm.sources.mmdet.detector
    import farm.sources.module  # noqa: F401

    path = tmp_path_factory.mktemp("weights") / "c.pth"
    kept = torch.load(DEMO / "onestage.pth", weights_only=True)
    torch.save({"state_dict": kept["state_dict"]}, path)
    return path


def _perform(step: Step, root: str, queue: multiprocessing.queues.Queue[Outcome]) -> None:
    queue.put(perform(step, root))


@dataclass(frozen=True)
class Project:
    """A matrix of one model in a folder, and its store."""

    folder: Path
    store: Store

    def plan(self) -> Plan:
        return make_plan(load_matrix(self.folder / "m.yaml"), facts_from(self.store))

    def check(self, status: str = "done") -> Plan:
        """As a sweep does: in a process of its own, and the plan made again."""
        (step,) = self.plan().of_stage("check")
        fork = multiprocessing.get_context("fork")
        queue = fork.Queue()
        child = fork.Process(target=_perform, args=(step, str(self.store.root), queue))
        child.start()
        outcome = queue.get(timeout=100)
        child.join()
        assert outcome.status == status, outcome.reason
        return self.plan()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def used(self) -> list[tuple[str, str]]:
        """Of the last check: kinds and names."""
        (step,) = self.plan().of_stage("check")
        entries = dependencies.read(self.store.path(step.ref) / dependencies.FILE)
        return [(one.kind, dependencies.called(one)) for one in entries]


@pytest.fixture
def project(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "c.pth").symlink_to(weights)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    one = Project(folder, Store(tmp_path / "store"))
    one.write("m.yaml", MATRIX.format(model=MMDET))
    return one


Change = Callable[[Project, pytest.MonkeyPatch], Callable[[], object]]


def rewritten(name: str, text: str) -> Change:
    """The file gets this text, and its own back."""

    def change(project: Project, _: pytest.MonkeyPatch) -> Callable[[], object]:
        before = (project.folder / name).read_bytes()
        project.write(name, text)
        return lambda: (project.folder / name).write_bytes(before)

    return change


def added(name: str) -> Change:
    def change(project: Project, _: pytest.MonkeyPatch) -> Callable[[], object]:
        return project.write(name, "x = 1\n").unlink

    return change


def exchanged(one: str, other: str) -> Change:
    """Each of the two files gets the other's text."""

    def change(project: Project, _: pytest.MonkeyPatch) -> Callable[[], object]:
        texts = [(project.folder / name).read_text() for name in (one, other)]

        def put(first: str, second: str) -> None:
            project.write(one, first)
            project.write(other, second)

        put(texts[1], texts[0])
        return lambda: put(*texts)

    return change


def variable(name: str, value: str) -> Change:
    def change(_: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
        before = os.environ.get(name)
        monkeypatch.setenv(name, value)
        return lambda: (
            monkeypatch.setenv(name, before) if before else monkeypatch.delenv(name, raising=False)
        )

    return change


def _path_first(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Another copy of the module, found before."""
    project.write("other/mynet/__init__.py", NET)
    project.write("other/mynet/parts.py", "WIDTH = 9\n")
    monkeypatch.syspath_prepend(str(project.folder / "other"))
    return lambda: sys.path.remove(str(project.folder / "other"))


IMPORTS = f"_base_ = '{BASE}'\ncustom_imports = dict(imports=['mynet'])\n"
OWN = {"mynet/__init__.py": NET, "mynet/parts.py": "WIDTH = 8\n"}
B1 = {"b1.py": f"_base_ = '{BASE}'\n"}
AGAIN = rewritten("b1.py", f"_base_ = '{BASE}'\nlog_level = 'INFO'\n")
TEXT = {"some.txt": "8\n"}
HERE = "from pathlib import Path\nHERE = Path(r'{{ fileDirname }}')\n"

CASES: dict[str, tuple[str, dict[str, str], Change]] = {
    "a module of custom_imports": (IMPORTS, OWN, rewritten("mynet/__init__.py", NET + "X = 1\n")),
    "a module of a package without a file": (
        f"_base_ = '{BASE}'\ncustom_imports = dict(imports=['ns.part'])\n",
        {"ns/part.py": "X = 1\n"},
        rewritten("ns/part.py", "X = 2\n"),
    ),
    "what that imports": (IMPORTS, OWN, rewritten("mynet/parts.py", "WIDTH = 16\n")),
    "another search path": (IMPORTS, OWN, _path_first),
    "a file beside it": (
        f"_base_ = '{BASE}'\nimport beside as _b\nwork_dir = _b.NAME\ndel _b\n",
        {"beside.py": "NAME = 'a'\n"},
        rewritten("beside.py", "NAME = 'b'\n"),
    ),
    "a file that is run": (
        f"_base_ = '{BASE}'\nexec(open(r'{{{{ fileDirname }}}}/beside.py').read())\n",
        {"beside.py": "NAME = 'a'\n"},
        rewritten("beside.py", "NAME = 'b'\n"),
    ),
    "a classes file": (
        f"_base_ = '{BASE}'\ndata = dict(test=dict(classes='names.txt'))\n",
        {"names.txt": "circle\nsquare\ntriangle\nstar\n"},
        rewritten("names.txt", "circle\r\nsquare\r\ntriangle\r\nstar\r\n"),
    ),
    "a variable": (
        f"import os\n_base_ = '{BASE}'\nwork_dir = os.environ.get('OWN_DIR', 'x')\n",
        {},
        variable("OWN_DIR", "y"),
    ),
    "a variable in a path": (
        f"import os.path as osp\n_base_ = '{BASE}'\nwork_dir = osp.expandvars('$OWN_DIR/x')\n",
        {},
        variable("OWN_DIR", "z"),
    ),
    "an annotated base": (f"_base_: str = '{BASE[:-3]}' + '.py'\n_base_ = 'b1.py'\n", B1, AGAIN),
    "an added base": ("_base_ = []\n_base_ += ['b1.py']\n", B1, AGAIN),
    "a base in a condition": ("if True:\n    _base_ = 'b1.py'\n", B1, AGAIN),
    "a base of several": ("_base_, x = ['b1.py'], 1\n", B1, AGAIN),
    "a base by exec": ("exec('_base_ = \"b1.py\"')\n", B1, AGAIN),
    "a base by an f-string": ("N = 1\n_base_ = [f'b{N}.py']\n", B1, AGAIN),
    "a base of a JSON base": (
        "_base_ = 'b.json'\n",
        {"b.json": '{"_base_": "./b1.py", "log_level": "INFO"}', **B1},
        rewritten("b1.py", f"_base_ = '{BASE}'\nwork_dir = 'x'\n"),
    ),
    "a base of a YAML base": ("_base_ = 'b.yml'\n", {"b.yml": "_base_: ./b1.py\n", **B1}, AGAIN),
    "two files of one name": (
        f"_base_ = '{BASE}'\n{HERE}for _f in 'ab':\n    exec(open(HERE / _f / 'x.py').read())\n"
        "del HERE, Path, _f\n",
        {"a/x.py": "", "b/x.py": "# nothing\n"},
        exchanged("a/x.py", "b/x.py"),
    ),
    "two modules of one name": (
        f"_base_ = '{BASE}'\ncustom_imports = dict(imports=['pa', 'pb'])\n",
        {"pa/__init__.py": "", "pb/__init__.py": "# nothing\n"},
        exchanged("pa/__init__.py", "pb/__init__.py"),
    ),
    "two files of one name above it": (
        f"_base_ = '{BASE}'\n{HERE}for _f in 'ab':\n"
        "    exec(open(HERE.parent / _f / 'x.py').read())\ndel HERE, Path, _f\n",
        {"../a/x.py": "", "../b/x.py": "# nothing\n"},
        exchanged("../a/x.py", "../b/x.py"),
    ),
    "a file that is not there yet": (
        f"_base_ = '{BASE}'\n{HERE}try:\n    work_dir = open(HERE / 'local.py').read()\n"
        "except OSError:\n    work_dir = 'x'\ndel HERE\ndel Path\n",
        {},
        added("local.py"),
    ),
    "whether a file is there": (
        f"_base_ = '{BASE}'\nimport os\nif os.path.exists(r'{{{{ fileDirname }}}}/local.py'):\n"
        "    work_dir = 'y'\n",
        {},
        added("local.py"),
    ),
    "a folder that is listed": (
        f"_base_ = '{BASE}'\nimport glob\nwork_dir = str(glob.glob(r'{{{{ fileDirname }}}}/p*/*'))",
        {"parts/a.py": ""},
        added("parts/b.py"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_it_is_seen_and_so_is_its_end(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, files, change = CASES[name]
    project.write("c.py", config)
    for file, text in files.items():
        project.write(file, text)
    _seen_and_back(project, change, monkeypatch)


MODULES: dict[str, tuple[str, dict[str, str], Change]] = {
    "data": ("(HERE / 'some.txt').read_text()", TEXT, rewritten("some.txt", "9\n")),
    "a variable": ("os.getenv('OWN_DIR')", {}, variable("OWN_DIR", "y")),
    "a module that is named late": (
        "__import__('importlib').import_module('la' + 'te')",
        {"late.py": "X = 1\n"},
        rewritten("late.py", "X = 2\n"),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_so_it_is_for_a_module(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, files, change = MODULES[name]
    project.write(
        "m.yaml",
        MATRIX.format(model="{source: module, function: 'own:make', outputs: raw}").replace(
            "runtimes", "postprocess: [none]\nruntimes"
        ),
    )
    project.write("own.py", MODULE % code)
    for file, text in files.items():
        project.write(file, text)
    _seen_and_back(project, change, monkeypatch)


def _seen_and_back(project: Project, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.plan().unchecked == ("m",)
    first = project.check()
    assert not first.unchecked
    undo = change(project, monkeypatch)
    assert project.plan().unchecked == ("m",), "the change is not seen"
    second = project.check()
    assert not second.unchecked
    for stage in ("check", "reference", "export", "build", "measure"):
        keys = [{step.key for step in plan.of_stage(stage)} for plan in (first, second)]
        assert keys[0] and not keys[0] & keys[1], stage
    undo()
    assert project.plan().steps.keys() == first.steps.keys()


TRAINED = f"_base_ = '{BASE}'\ndata = dict(train=dict(type='CocoDataset', ann_file='ann/t.json'))\n"
SOUGHT: dict[str, tuple[str, str]] = {
    "beside the config": (TRAINED, "ann/t.json"),
    "above the config": (TRAINED, "../ann/t.json"),
    "under the root of the data": (TRAINED.replace("ann_file", "data_root='d', ann_file"),
                                   "d/ann/t.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUGHT)
def test_a_training_file_that_appears_is_seen(
    name: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, place = SOUGHT[name]
    project.write("c.py", config)
    _seen_and_back(project, annotations(place), monkeypatch)


def annotations(place: str) -> Change:
    def change(project: Project, _: pytest.MonkeyPatch) -> Callable[[], object]:
        names = enumerate(("star", "circle", "square", "triangle"), 1)
        found = [{"id": i, "name": name} for i, name in names]
        text = json.dumps({"images": [], "annotations": [], "categories": found})
        return project.write(place, text).unlink

    return change


def test_a_training_file_in_the_current_folder_is_seen_from_any_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("c.py", TRAINED)
    (project.folder.parent / "away").mkdir()
    first = project.check()
    annotations("../away/ann/t.json")(project, monkeypatch)
    monkeypatch.chdir(project.folder.parent / "away")
    assert project.plan().unchecked == ("m",)
    monkeypatch.chdir(project.folder)
    assert project.plan().steps.keys() == first.steps.keys()


def test_a_missing_training_file_changes_no_later_key(project: Project) -> None:
    """Whatever the folders in which it was looked for."""
    project.write("c.py", TRAINED)
    (step,) = project.check().of_stage("export")
    assert step.inputs.model.used == ""  # type: ignore[union-attr]


def test_a_classes_file_that_comes_first_is_seen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, files, _ = CASES["a classes file"]
    project.write("c.py", config)
    project.write("names.txt", files["names.txt"])
    first = project.check()
    assert not first.unchecked
    other = project.write("../away/names.txt", "star\ncircle\nsquare\ntriangle\n")
    monkeypatch.chdir(other.parent)
    assert project.plan().unchecked == ("m",)
    other.unlink()
    assert project.plan().steps.keys() == first.steps.keys()


def test_a_plain_config_needs_nothing_else(project: Project) -> None:
    """So work that was done before has the keys it had."""
    for text in (f"_base_ = '{BASE}'\n", f"_base_: list = ['{BASE}']\n"):
        project.write("c.py", text)
        (step,) = project.check().of_stage("export")
        assert project.used() == []
        assert step.inputs.model.used == ""  # type: ignore[union-attr]


def test_the_same_project_elsewhere_has_the_same_keys(project: Project, tmp_path: Path) -> None:
    project.write("c.py", IMPORTS)
    for file, text in OWN.items():
        project.write(file, text)
    first = project.check()
    folder = tmp_path / "moved" / "deeper"
    folder.parent.mkdir()
    project.folder.rename(folder)
    sys.path[sys.path.index(str(project.folder))] = str(folder)
    os.chdir(folder)
    moved = Project(folder, project.store)
    assert moved.plan().steps.keys() == first.steps.keys()
    moved.write("mynet/parts.py", "WIDTH = 1\n")
    assert moved.plan().unchecked == ("m",)


def _installed(folder: Path, version: str, code: str = "X = 1\n") -> Path:
    """A package as pip leaves it; its module."""
    for old in folder.glob("owndist-*"):
        shutil.rmtree(old)
    module, info = folder / "owndist" / "__init__.py", folder / f"owndist-{version}.dist-info"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(code)
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: owndist\nVersion: {version}\n")
    (info / "top_level.txt").write_text("owndist\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(f"owndist/__init__.py,sha256={digest},{len(code)}\n")
    return module


def _forget() -> None:
    """What a process found of packages holds for its life."""
    importlib.invalidate_caches()
    packages.version.cache_clear()
    packages.exact_version.cache_clear()


def test_a_package_that_the_config_imports_counts_with_its_version_and_its_patches(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.folder / "site-packages"
    module = _installed(folder, "1.0")
    monkeypatch.syspath_prepend(str(folder))
    project.write("c.py", f"_base_ = '{BASE}'\ncustom_imports = dict(imports=['owndist'])\n")
    first = project.check()
    assert not first.unchecked
    assert ("package", "owndist") in project.used()
    _installed(folder, "1.1")
    _forget()
    assert project.plan().unchecked == ("m",)
    _installed(folder, "1.0")
    _forget()
    assert project.plan().steps.keys() == first.steps.keys()
    module.write_text("X = 2\n")
    _forget()
    assert project.plan().unchecked == ("m",)


@pytest.fixture
def owndist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What a new process says of the package in `site-packages`."""
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))

    def version() -> str:
        _forget()
        return packages.exact_version("owndist")

    return version


def test_versions_tell_what_is_patched_editable_or_hidden(
    owndist: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, folder = owndist, tmp_path / "site-packages"
    module = _installed(folder, "1.0")
    assert version() == "1.0"
    module.write_text("X = 2\n")
    patched = version()
    assert patched.startswith("1.0 with code ")
    module.with_name("more.py").write_text("Y = 1\n")
    assert version() not in ("1.0", patched)
    module.with_name("more.py").unlink()
    module.write_text("X = 1\n")
    assert version() == "1.0"
    hidden = tmp_path / "checkout" / "owndist" / "__init__.py"
    hidden.parent.mkdir(parents=True)
    hidden.write_text("X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
    first = version()
    hidden.write_text("X = 3\n")
    assert first.startswith("1.0 with code ") and version() not in ("1.0", first)
    shutil.rmtree(module.parent)  # as pip leaves an editable one
    record = next(folder.glob("*.dist-info")) / "RECORD"
    record.write_text("__editable__.owndist-1.0.pth,sha256=x,1\n")
    editable = version()
    assert editable.startswith("1.0 with code ")
    hidden.write_text("X = 4\n")
    assert version() not in ("1.0", editable)


def test_what_its_user_built_anew_under_the_same_version_is_told(
    owndist: Callable[[], str], tmp_path: Path
) -> None:
    folder = tmp_path / "site-packages"
    builds = []
    for code in ("X = 1\n", "X = 2\n", "X = 1\n"):
        info = _installed(folder, "1.0", code).parents[1] / "owndist-1.0.dist-info"
        (info / "direct_url.json").write_text('{"archive_info": {}, "url": "file:///o-1.0.whl"}')
        builds.append(owndist())
    assert builds[0] == builds[2] != builds[1]
    assert builds[0].startswith("1.0 with code ")


def test_native_libraries_count_by_content_or_where_they_are_large_by_size(
    owndist: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, folder = owndist, tmp_path / "site-packages"
    library = _installed(folder, "1.0").with_name("_ext.so")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"abc").digest()).decode().rstrip("=")
    with next(folder.glob("*.dist-info")).joinpath("RECORD").open("a") as record:
        record.write(f"owndist/_ext.so,sha256={digest},3\n")

    def versions() -> list[str]:
        found = []
        for content in (b"abc", b"abd", b"abe", b"abcd"):
            library.write_bytes(content)
            found.append(version())
        return found

    by_content = versions()
    assert by_content[0] == "1.0" and len(set(by_content)) == 4
    monkeypatch.setattr(packages, "MOST_READ", 2)
    by_size = versions()
    assert by_size[:3] == ["1.0"] * 3 and by_size[3].startswith("1.0 with code ")
    library.unlink()
    assert version() == "1.0"


def test_a_patched_mmdet_changes_every_key_of_its_models(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("c.py", f"_base_ = '{BASE}'\n")
    first = project.check()
    spec = importlib.util.find_spec("mmdet")
    assert spec and spec.origin
    copy = project.folder / "patched" / "mmdet"
    copy.mkdir(parents=True)
    for name in ("__init__.py", "version.py"):
        shutil.copy(Path(spec.origin).with_name(name), copy / name)
    monkeypatch.syspath_prepend(str(copy.parent))
    _forget()
    plan = project.plan()
    assert plan.unchecked == ("m",)
    assert not {s.key for s in plan.of_stage("export")} & {s.key for s in first.of_stage("export")}
    sys.path.remove(str(copy.parent))
    _forget()
    assert project.plan().steps.keys() == first.steps.keys()


def test_what_cannot_be_followed_is_said(project: Project) -> None:
    project.write(
        "c.py",
        f"import os, subprocess\n_base_ = '{BASE}'\n"
        "work_dir = subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout\n"
        "log_level = 'INFO' if dict(os.environ) else 'DEBUG'\n",
    )
    plan = project.check()
    assert plan.unfollowed == {"m": ("starts a program", "goes through all environment variables")}
    told = " ".join(as_text(plan, project.store).split())
    assert "Changes that a plan cannot see: m starts a program, goes through all" in told
    asked = {name for kind, name in project.used() if kind == "variable"}
    assert asked <= {"$PATH"}  # by `subprocess`


def test_what_the_config_makes_itself_is_no_input(project: Project) -> None:
    project.write(
        "c.py",
        f"import os, tempfile\n_base_ = '{BASE}'\nos.environ['OWN_DIR'] = 'a'\n"
        "with tempfile.TemporaryDirectory() as _d:\n"
        "    open(_d + '/x', 'w').write('1')\n"
        "    work_dir = open(_d + '/x').read() + os.environ['OWN_DIR']\ndel _d\n",
    )
    assert not project.check().unchecked
    assert {kind for kind, _ in project.used()} <= {"config", "exists"}


def test_the_folders_above_a_project_are_in_no_key(project: Project) -> None:
    """They are there wherever it is, and `resolve` asks for each of them."""
    project.write("c.py", f"_base_ = '{BASE}'\n{HERE}work_dir = HERE.resolve().name\n"
                  "del HERE, Path\n")  # fmt: skip
    project.check()
    assert [one for one in project.used() if one[0] == "exists"] == []


def test_no_value_of_a_variable_is_written_down(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_TOKEN", "hunter2-secret")
    project.write("c.py", f"import os\n_base_ = '{BASE}'\n_ = os.environ['OWN_TOKEN']\ndel _\n")
    project.check()
    assert ("variable", "$OWN_TOKEN") in project.used()
    for path in project.store.root.rglob("used.jsonl"):
        assert "hunter2" not in path.read_text()


def test_a_failed_check_is_tried_anew_when_its_cause_has_changed(project: Project) -> None:
    project.write("c.py", IMPORTS)
    project.write("mynet/parts.py", "WIDTH = 8\n")
    broken = NET + "import mmcv\ndef boom(*_, **__):\n    raise RuntimeError('by mynet')\n"
    project.write("mynet/__init__.py", broken + "OwnNeck.__init__ = boom\n"
                  "mmcv.Config.merge_from_dict = boom\n")  # fmt: skip
    plan = project.check("failed")
    assert not plan.unchecked and "by mynet" in str(plan.cells[0].refused)
    project.write("mynet/__init__.py", NET)
    assert project.plan().unchecked == ("m",)
    assert project.check().cells[0].refused is None


def test_a_sweep_takes_what_it_has_just_checked(project: Project) -> None:
    """Also where no check finds the model as it was: a config that counts its readings."""
    project.write("n.txt", "0")
    project.write(
        "c.py",
        f"_base_ = '{BASE}'\n{HERE}_n = HERE / 'n.txt'\nwork_dir = _n.read_text()\n"
        "_n.write_text(work_dir + '1')\ndel _n, HERE, Path\n",
    )
    matrix = load_matrix(project.folder / "m.yaml")
    keys = set()
    for _ in range(2):
        assert project.plan().unchecked == ("m",)
        plan = checked_plan(matrix, project.store, partial(LocalExecutor, project.store), False)
        assert plan.unchecked == ()
        keys |= {step.key for step in plan.of_stage("export")}
    assert len(keys) == 2


def test_a_single_export_has_the_key_of_a_sweep(project: Project) -> None:
    config, files, _ = CASES["a file that is run"]
    project.write("c.py", config)
    project.write("beside.py", files["beside.py"])

    def used_here() -> str:
        model = inputs.detector_spec(argparse.Namespace(config="c.py"), "c.pth")
        return check_detector(model, project.store, False).model.used

    (step,) = project.check().of_stage("export")
    first = step.inputs.model.used  # type: ignore[union-attr]
    assert first and used_here() == first
    project.write("beside.py", "NAME = 'b'\n")
    (step,) = project.check().of_stage("export")
    assert used_here() == step.inputs.model.used != first  # type: ignore[union-attr]


def test_a_file_that_is_read_and_written_is_said(project: Project) -> None:
    for name in ("log.txt", "both.txt", "only.txt"):
        project.write(name, "0")
    project.write(
        "c.py",
        f"_base_ = '{BASE}'\n{HERE}open(HERE / 'log.txt', 'a').close()\n"
        "work_dir = open(HERE / 'log.txt').read()\nopen(HERE / 'both.txt', 'r+').close()\n"
        "open(HERE / 'only.txt', 'a').close()\ndel HERE, Path\n",
    )
    said = project.check().unfollowed["m"]
    assert said == ("reads and writes log.txt", "reads and writes both.txt")


def test_lines_that_are_torn_or_foreign_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / dependencies.FILE
    good = json.dumps(["variable", "X", "not set", ""])
    path.write_text(f'{good}\n[1, 2]\n{{"a": 1}}\n["file", 1, 2, 3]\n{good[:9]}')
    assert [one.name for one in dependencies.read(path)] == ["X"]
    path.write_bytes(b"\xff\xfe")
    assert dependencies.read(path) == ()


def test_what_changed_is_called_by_its_place_or_name(tmp_path: Path) -> None:
    entries = [
        dependencies.Used(kind, name, "before", place)
        for kind, name, place in (
            ("exists", "", "a.txt"), ("folder", "", "parts"), ("sought", "t.json", "above"),
            ("variable", "OWN_DIR", ""),
        )
    ]  # fmt: skip
    changed = dependencies.changed(entries, dependencies.Where(tmp_path))
    assert changed == ["a.txt", "parts", "t.json", "$OWN_DIR"]

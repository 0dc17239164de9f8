"""What is in a pack, which packs are refused, and what its steps become on another machine."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, needs_packages
from rows import row
from test_import_trust import FACTS, HOSTILE, KEY, entry, forge, tar

from farm import specs
from farm.catalog import PRECISIONS
from farm.cli import main
from farm.config.loader import Matrix, load_matrix
from farm.config.schema import VerifySpec
from farm.engine.scheduler import Outcome, StepStatus
from farm.errors import InputError
from farm.offline import contents
from farm.offline.archive import writing
from farm.offline.contents import Pack
from farm.offline.pack import _file, _members, describe, select
from farm.offline.records import small_files
from farm.offline.relocate import PackHost, relocate
from farm.offline.run import _as_text, _exclusive
from farm.offline.unpack import unpack
from farm.plan import Plan, make_plan
from farm.plan.machines.placement import Gpu, cpu_model
from farm.specs import ModelFacts, Suppression, refs_of
from farm.store import Store

GPU_WORDS = ("runtimes=[tensorrt]", "targets={h100: {accelerator: H100, driver: 580}}")
H100 = Gpu("NVIDIA H100 80GB HBM3", "9.0", "580.95.05")


def planned(matrix: Matrix) -> Plan:
    return make_plan(matrix, lambda key: FACTS)


def pack_of(matrix: Matrix, plan: Plan | None = None) -> Pack:
    """A pack as far as planning alone makes it: every step before the build ended well."""
    plan = plan or planned(matrix)
    return describe(matrix, plan, {key: Outcome(key, StepStatus.DONE) for key in plan.steps})


def with_files(pack: Pack) -> Pack:
    """As if all that the steps read were in it."""
    named = {ref for step in pack.steps for ref in refs_of(step.inputs)}
    files = {
        f"store/{ref.stage}/{ref.key[:2]}/{ref.key}/record.json": contents.PackedFile(1, "")
        for ref in named
        if ref.stage in contents.BEFORE
    }
    return replace(pack, files=files)


@pytest.fixture
def matrix(small_matrix: Path) -> Matrix:
    return load_matrix(small_matrix)


@pytest.fixture
def members(matrix: Matrix, tmp_path: Path) -> dict[str, bytes]:
    """The files of a whole pack, whose artifacts are made up; pack.json first."""
    plan, store = planned(matrix), Store(tmp_path / "theirs")
    forge(plan, store, host="theirs")
    pack = pack_of(matrix, plan)
    files = dict(_members(pack, store))
    pack = replace(pack, files={name: _file(source) for name, source in files.items()})
    found = {
        name: source if isinstance(source, bytes) else source.read_bytes()
        for name, source in files.items()
    }
    return {contents.NAME: contents.as_json(pack), **found}


def archived(path: Path, files: dict[str, bytes]) -> Path:
    writing.write_pack(path, list(files.items()), None)
    return path


def test_a_pack_becomes_artifacts_of_a_store(members: dict[str, bytes], tmp_path: Path) -> None:
    archive, store = archived(tmp_path / "p.tar.gz", members), Store(tmp_path / "store")
    pack = unpack([archive], store)
    assert {ref.stage for ref in pack.carried} == {"check", "prepare", "reference", "export"}
    read = {ref for step in pack.steps for ref in refs_of(step.inputs)}
    for ref in pack.carried:
        assert store.any_record(ref) is not None
        assert (store.record(ref) is not None) == (ref in read)  # of others the record alone
    assert not list(store.root.glob("tmp/*"))
    (export,) = (ref for ref in pack.carried if ref.stage == "export")
    (store.path(export) / "engine").unlink()
    assert unpack([archive], store) == pack  # what is torn here comes from the pack again
    assert store.record(export) is not None
    engine = store.path(export) / "engine"
    good = engine.read_bytes()
    engine.write_bytes(good[:-1] + b"X")
    unpack([archive], store)  # and what was altered
    assert engine.read_bytes() == good
    # An earlier pack may have had its record alone.
    whole = store.record(export)
    assert whole is not None
    small = dict(small_files(whole, store.path(export)))
    shutil.rmtree(store.path(export))
    store.path(export).mkdir()
    for name, data in small.items():
        (store.root.parent / name).write_bytes(data)
    assert store.any_record(export) is not None and store.record(export) is None
    unpack([archive], store)
    assert store.record(export) is not None


def changed(members: dict[str, bytes], change: Callable[[Any], object]) -> dict[str, bytes]:
    pack = json.loads(members[contents.NAME])
    change(pack)
    return {**members, contents.NAME: json.dumps(pack).encode()}


def step_of(stage: str) -> Callable[[Any], Any]:
    return lambda pack: next(one for one in pack["steps"] if one["stage"] == stage)


BUILD, VERIFY = step_of("build"), step_of("verify")
MODEL = {
    "name": "x", "function": "os:system", "root": "/", "code": {"path": "x", "digest": "x"},
}  # fmt: skip

WRONG: dict[str, tuple[Callable[[Any], object], str]] = {
    "another version": (lambda p: p.update(version=3), "version 3; this farm reads version 5"),
    "no version": (lambda p: p.pop("version"), "version None"),
    "a field more": (lambda p: p.update(more=1), "'more'"),
    "cells as text": (lambda p: p.update(cells="x"), "cells"),
    "a climbing name": (lambda p: p.update(name="../../x"), "is not a name"),
    "an unknown runtime": (
        lambda p: p["cells"][0]["cell"].update(runtime="rm"), "unknown runtime 'rm'",
    ),
    "a stage of before": (lambda p: BUILD(p).update(stage="export"), "unknown stage 'export'"),
    "a key that climbs": (lambda p: BUILD(p).update(key="../../x"), "is not a key"),
    "a library to load": (
        lambda p: BUILD(p)["inputs"]["options"].update(options=[["plugins", ["x.so"]]]),
        "option 'plugins': a pack may not name libraries",
    ),
    "a library to load, inside": (
        lambda p: VERIFY(p)["inputs"]["engine"]["options"].update(
            options=[["provider_options", {"trt_extra_plugin_lib_paths": "x.so"}]]
        ),
        "may not name libraries",
    ),
    "a runtime that is none": (
        lambda p: BUILD(p)["inputs"]["options"].update(runtime="os"), "unknown runtime 'os'",
    ),
    "a model with code": (
        lambda p: VERIFY(p)["inputs"]["engine"].update(model=MODEL), "expected a built engine",
    ),
    "no engine": (lambda p: VERIFY(p)["inputs"]["engine"].update(built=None), "a built engine"),
    "inputs of another stage": (lambda p: BUILD(p).update(stage="measure"), "'engine' is missing"),
    "an artifact that is not there": (
        lambda p: BUILD(p)["inputs"]["exported"].update(key=KEY), "neither in the pack nor made",
    ),
    "a parent that comes later": (
        lambda p: BUILD(p).update(parents=[VERIFY(p)["key"]]),
        "neither in the pack nor made before",
    ),
    "an engine among its files": (
        lambda p: p["files"].update({f"store/build/ab/{KEY}/engine/x": {"size": 1, "digest": ""}}),
        "is no file of check",
    ),
    "a file of no artifact": (
        lambda p: p["files"].update({"farm/run.py": {"size": 1, "digest": ""}}), "is no file of",
    ),
    "a file of no size": (
        lambda p: p["files"].update({f"store/check/ab/{KEY}/x": {"size": -1, "digest": ""}}),
        "expected a size in bytes",
    ),
    "nested": (lambda p: p["verify"].update(x=json.loads(500 * "[" + 500 * "]")), "nested"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_pack_that_farm_pack_does_not_write_is_refused(
    kind: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    change, said = WRONG[kind]
    archive = archived(tmp_path / "p.tar.gz", changed(members, change))
    with pytest.raises(InputError, match=re.escape(said)) as error:
        unpack([archive], Store(tmp_path / "store"))
    assert error.value.where == str(archive) and not list((tmp_path / "store").glob("*/*/*"))


def torn_members(kind: str, members: dict[str, bytes]) -> dict[str, bytes]:
    first, *names = members
    data = next(name for name in names if name.endswith("/engine"))
    if kind == "a file less":
        return {name: one for name, one in members.items() if name != data}
    if kind == "a file more":
        return {**members, f"store/check/ab/{KEY}/x": b"x"}
    if kind == "another size":
        return {**members, data: b"x"}
    if kind == "other content":
        return {**members, data: bytes(len(members[data]))}
    if kind == "pack.json last":
        return {**{name: members[name] for name in names}, first: members[first]}
    assert kind == "no record"
    record = next(name for name in names if "/export/" in name and name.endswith("record.json"))
    found = json.loads(members[first])
    found["files"][record] = {"size": 2, "digest": sha(b"{}")}
    return {**members, first: json.dumps(found).encode(), record: b"{}"}


def sha(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a file less", "is missing; copy it here again"),
        ("a file more", "is unexpected: pack.json does not list it"),
        ("another size", "has 1 bytes, expected 9"),
        ("other content", "is changed: its sha256"),
        ("pack.json last", "its first file is not pack.json"),
        ("no record", "has no record"),
    ],
)
def test_a_pack_whose_files_are_not_those_it_lists_is_refused(
    kind: str, said: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    archive = archived(tmp_path / "p.tar.gz", torn_members(kind, members))
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match=re.escape(said)) as error:
        unpack([archive], store)
    assert error.value.where == str(archive)
    assert not list(store.root.glob("*/??/*")) and not list(store.root.glob("tmp/*"))


@pytest.mark.parametrize("kind", [one for one in HOSTILE if one != "large record"])
def test_a_hostile_archive_is_refused_as_a_pack(kind: str, tmp_path: Path) -> None:
    """Also where the bad member comes after a pack.json."""
    archive = HOSTILE[kind][0](tmp_path / "a.tar.gz")
    with pytest.raises(InputError) as error:
        unpack([archive], Store(tmp_path / "store"))
    assert error.value.where == str(archive) and error.value.message.isprintable()
    assert not list((tmp_path / "store").glob("*/*"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (entry("store/p", type=tarfile.FIFOTYPE), "a pipe"),
        (entry("store/l", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
        (entry("../x", b"x"), "no plain path"),
        (entry("/tmp/x", b"x"), "no relative path"),
        (entry("pack.json", b"{}"), "appears twice"),
    ],
)
def test_a_hostile_member_after_a_good_description_is_refused(
    more: Any, said: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    first = entry(contents.NAME, members[contents.NAME])
    archive = tar(tmp_path / "a.tar.gz", first, more)
    store = Store(tmp_path / "store")
    with pytest.raises(InputError, match=said):
        unpack([archive], store)
    assert not list(store.root.glob("*/*"))


def test_a_torn_pack_is_refused_wherever_it_ends(members: dict[str, bytes], tmp_path: Path) -> None:
    whole = archived(tmp_path / "p.tar.gz", members).read_bytes()
    torn = tmp_path / "torn.tar.gz"
    for size in (0, 1, 20, len(whole) // 2, len(whole) * 3 // 4):
        torn.write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged, or not a pack"):
            unpack([torn], Store(tmp_path / "store"))
    assert not list((tmp_path / "store").glob("*/??/*"))


def test_parts_are_joined_in_their_order(tmp_path: Path) -> None:
    import random

    data = random.Random(1).randbytes(3_000_000)
    path = tmp_path / "p.tar.gz"
    parts = writing.write_pack(path, [("x", data), ("y", b"y")], 1 << 20)
    assert [one.name for one in parts] == ["p.tar.gz.1of3", "p.tar.gz.2of3", "p.tar.gz.3of3"]
    for words in ([parts[1]], parts[::-1], [path]):
        assert writing.find_parts(words) == parts
    with pytest.raises(InputError, match="not a part of p"):
        writing.find_parts([parts[0], tmp_path / "q.tar.gz.1of3"])
    with pytest.raises(InputError, match="not a part of a pack"):
        writing.find_parts([tmp_path / "q.tar.gz", parts[0]])
    whole = writing.write_pack(path, [("x", data), ("y", b"y")], None)
    assert whole == [path] and list(tmp_path.iterdir()) == [path]  # the old parts went
    parts = writing.write_pack(path, [("x", data)], 1 << 20)
    assert not path.exists() and sorted(tmp_path.iterdir()) == parts
    from farm.offline.archive.members import Limits
    from farm.offline.archive.reading import members

    (one,) = members(parts[0], Limits(9, 1 << 30, 1 << 30), "a pack", parts)
    with pytest.raises((ValueError, OSError)):
        one.content.read()  # its archive is closed by now


def test_reading_crosses_the_ends_of_parts(tmp_path: Path) -> None:
    from farm.offline.archive.reading import _Joined

    texts = [b"abc", b"", b"defgh", b"i"]
    parts = []
    for number, text in enumerate(texts):
        parts.append(tmp_path / str(number))
        parts[-1].write_bytes(text)
    with io.BufferedReader(_Joined(parts), 2) as stream:
        assert stream.read() == b"abcdefghi"
        for place in (4, 0, 3, 8, 9):
            stream.seek(place)
            assert stream.tell() == place and stream.read(3) == b"abcdefghi"[place : place + 3]


# --- what a pack says -----------------------------------------------------------------------------


def test_a_pack_judges_each_precision_as_its_matrix_does(small_matrix: Path) -> None:
    for words in ([], ["verify.min_iou=0.6", "verify.precisions={int8: {max_score_diff: 0.5}}"]):
        matrix = load_matrix(small_matrix, words)
        packed = VerifySpec.model_validate(json.loads(json.dumps(pack_of(matrix).verify)))
        for precision in PRECISIONS:
            assert packed.of(precision) == matrix.spec.verify.of(precision)


def test_what_is_written_is_what_is_read(small_matrix: Path) -> None:
    words = [*GPU_WORDS, "precisions=[fp32, fp16]", "workspaces=[1GiB, 2GiB]"]
    words.append("runtime_options={tensorrt: {timing_cache: cache/, optimization_level: 2}}")
    facts = replace(FACTS, suppression=Suppression(0.5, False, 100))
    matrix = load_matrix(small_matrix, words)
    pack = with_files(pack_of(matrix, make_plan(matrix, lambda key: facts)))
    read = contents.parse(contents.as_json(pack), "here")
    assert len(read.cells) == 4 and read.cells == pack.cells and read.verify == pack.verify
    for one, other in zip(read.steps, pack.steps, strict=True):
        assert (one.key, one.needs, one.parents) == (other.key, other.needs, other.parents)
        assert contents.INPUTS[one.stage] is type(one.inputs)


def test_models_that_are_not_chosen_need_no_files(
    small_matrix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = small_matrix.read_text()
    more = "opsets: [17]\n".join(["  absent: {config: no.py, checkpoint: no.pth}\n", ""])
    small_matrix.write_text(text.replace("opsets: [17]\n", more))
    monkeypatch.setattr("sys.argv", ["farm", "pack", str(small_matrix), "--model", "onestage"])
    options = main.run_command.parse(main.make_parser())
    matrix = load_matrix(small_matrix)
    assert len(make_plan(matrix).missing) == 2
    assert not make_plan(select(matrix, options)).missing


def test_cells_whose_runtime_builds_nothing_stay_out(small_matrix: Path) -> None:
    pack = pack_of(load_matrix(small_matrix, ["runtimes=[torch, onnxruntime]"]))
    assert [one.cell.runtime for one in pack.cells] == ["onnxruntime"]


def test_the_reason_of_a_failure_before_the_build_is_packed(matrix: Matrix) -> None:
    plan = planned(matrix)
    ends = {key: Outcome(key, StepStatus.DONE) for key in plan.steps}
    (export,) = plan.of_stage("export")
    ends[export.key] = Outcome(export.key, StepStatus.FAILED, "no such operator")
    pack = describe(matrix, plan, ends)
    assert pack.reasons == {export.key: "no such operator"} and pack.steps == ()
    assert list(pack.cells[0].steps) == ["check", "prepare", "reference", "export"]


def test_commands_of_the_gpu_page_can_be_planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("COCO_MINI", "CHECKPOINTS"):
        monkeypatch.setenv(name, str(tmp_path))
    text = (PROJECT / "docs" / "gpu.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if "farm pack matrices/" in line]
    assert len(lines) == 2
    for line in lines:
        monkeypatch.setattr("sys.argv", shlex.split(line))
        options = main.run_command.parse(main.make_parser())
        matrix = select(load_matrix(PROJECT / options.matrix, options.overrides), options)
        facts = ModelFacts(("person",), False, "[]", suppression=Suppression(0.65, False, 100))
        pack = pack_of(matrix, make_plan(matrix, lambda key, f=facts: f))
        assert all(not one.refused for one in pack.cells)
        assert {one.cell.runtime for one in pack.cells} == {"tensorrt"}


# --- on another machine ---------------------------------------------------------------------------


def test_steps_are_planned_for_the_machine_that_runs_them(matrix: Matrix) -> None:
    pack = with_files(pack_of(matrix))
    here = relocate(pack, pack.cells, PackHost(cpu_model(), 4), "cache/").plan
    assert {step.key for step in here.steps.values()} != {step.key for step in pack.steps}  # cores
    other = relocate(pack, pack.cells, PackHost("another processor", 4), "cache/").plan
    assert not here.steps.keys() & other.steps.keys()
    for step in other.steps.values():
        assert step.inputs.target.device == "another processor"  # type: ignore[union-attr]
        assert step.inputs.target.name == "cpu"  # type: ignore[union-attr]
    (build, *rest) = other.steps.values()
    assert all(step.inputs.engine.built == build.ref for step in rest)  # type: ignore[union-attr]
    assert all(set(step.parents) <= other.steps.keys() for step in rest)
    (measure,) = (step for step in rest if step.stage == "measure")
    assert measure.inputs.threads == 4  # type: ignore[union-attr]
    (cell,) = other.cells
    assert cell.steps["build"] == build.key
    assert cell.steps["export"] == pack.cells[0].steps["export"]


def test_a_processor_that_the_matrix_names_is_that_one_only(small_matrix: Path) -> None:
    matrix = load_matrix(small_matrix, ["targets={mine: {device: Mine}, any: {}}"])
    pack = with_files(pack_of(matrix))
    found = relocate(pack, pack.cells, PackHost("Yours", 4), "cache/")
    assert [one.cell.target for one in found.plan.cells] == ["any"]
    assert found.excluded == {"mine is Mine, this machine is Yours": 1}
    with pytest.raises(InputError, match="no cell can run on this machine:\n  mine is Mine"):
        relocate(pack, pack.cells[:1], PackHost("Yours", 4), "cache/")


def test_a_gpu_is_the_target_with_its_own_driver(
    small_matrix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = "runtime_options={tensorrt: {timing_cache: mine/}}"
    matrix = load_matrix(small_matrix, [*GPU_WORDS, cache])
    pack = contents.parse(contents.as_json(with_files(pack_of(matrix))), "here")
    with pytest.raises(InputError, match="h100 is H100, this machine has no GPU"):
        relocate(pack, pack.cells, PackHost("x", 4), "cache/")
    other = Gpu("NVIDIA L4", "8.9", "580.95.05")
    with pytest.raises(InputError, match="this machine has NVIDIA L4"):
        relocate(pack, pack.cells, PackHost("x", 4, [other]), "cache/")
    with pytest.raises(InputError, match="tensorrt not installed"):
        relocate(pack, pack.cells, PackHost("x", 4, [H100]), "cache/")
    monkeypatch.setattr("farm.offline.relocate.toolchain", lambda names: (("tensorrt", "8.6"),))
    newer = replace(H100, driver="590.1")
    for gpu in (H100, newer):
        plan = relocate(pack, pack.cells, PackHost("x", 4, [other, gpu]), "cache/").plan
        (build, *_) = plan.steps.values()
        assert build.inputs.target.driver == gpu.branch  # type: ignore[union-attr]
        assert build.needs.accelerator == "H100"
        options = dict(build.inputs.options.options)  # type: ignore[union-attr]
        assert options == {"timing_cache": specs.CachePath("cache/")}


@needs_packages
def test_every_model_comes_once_before_anything_else_of_one(small_matrix: Path) -> None:
    """Then what differs in one axis, then in two, and so on."""
    words = ["shapes={a: {opt: 160x160}, b: {opt: 192x192}}", "precisions=[fp32, fp16]"]
    words.append("runtimes=[onnxruntime, openvino]")
    text = small_matrix.read_text()
    more = re.sub(r"onestage: (.*)", r"onestage: \1\n  other: \1", text, count=1)
    small_matrix.write_text(more)
    pack = with_files(pack_of(load_matrix(small_matrix, words)))
    plan = relocate(pack, pack.cells, PackHost("x", 4), "cache/").plan
    order = [(one.cell.shape, one.cell.precision, one.cell.runtime[1]) for one in plan.cells]
    assert [one.cell.model for one in plan.cells] == 8 * ["onestage", "other"]
    assert order[::2] == order[1::2] == [
        ("a", "fp32", "n"), ("a", "fp32", "p"), ("a", "fp16", "n"), ("b", "fp32", "n"),
        ("a", "fp16", "p"), ("b", "fp32", "p"), ("b", "fp16", "n"), ("b", "fp16", "p"),
    ]  # fmt: skip


# --- wrong words ----------------------------------------------------------------------------------


def told(
    words: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr("sys.argv", ["farm", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_wrong_places_are_told(
    small_matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def says(*words: object) -> str:
        return told(list(words), monkeypatch, capsys)

    results = ("--results", tmp_path / "r")
    assert "no such pack; `farm pack MATRIX` makes one" in says("run-pack", "nowhere", *results)
    assert "a folder; expected the file" in says("run-pack", tmp_path, *results)
    assert "no such part" in says("run-pack", tmp_path / "p.tar.gz.1of2", *results)
    (tmp_path / "text").write_text("no archive")
    assert "damaged, or not a pack" in says("run-pack", tmp_path / "text", *results)
    assert "no time limit" in says("run-pack", tmp_path / "text", "--minutes", "0")
    assert "none.yaml" in says("pack", tmp_path / "none.yaml")
    assert "a folder; expected the name" in says("pack", small_matrix, "-o", tmp_path)
    assert "cannot write here" in says("pack", small_matrix, "-o", "/proc/no/pack", *results)
    assert "not a size with a unit" in says("pack", small_matrix, "--part-size", "60")
    assert "too small" in says("pack", small_matrix, "--part-size", "1KiB")
    assert "no cell has runtime 'openvino'" in says("pack", small_matrix, "--runtime", "openvino")
    (tmp_path / "file").write_text("a file in its place")
    here = says("run-pack", tmp_path / "text", "--results", tmp_path / "file")
    assert here.startswith(f"farm: {tmp_path / 'file'}") and "Not a directory" in here
    assert "no such folder or archive" in says("import", tmp_path / "nowhere", *results)


def test_a_pack_carries_no_libraries_and_says_so(
    small_matrix: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "runtime_options={tensorrt: {plugins: [libmine.so]}}"
    err = told(["pack", small_matrix, *GPU_WORDS, own], monkeypatch, capsys)
    assert "a pack does not contain libraries" in err and "runtime_options" in err


def test_two_runs_in_one_place_do_not_measure_each_other(tmp_path: Path) -> None:
    with (
        _exclusive(tmp_path),
        pytest.raises(InputError, match="already running"),
        _exclusive(tmp_path),
    ):
        pass


def test_the_options_of_a_matrix_are_those_of_a_sweep() -> None:
    """What `farm run` takes, `farm pack` takes, but for what makes no sense there."""
    parser = main.make_parser()
    commands = next(one.choices for one in parser._actions if one.dest == "==SUPPRESS==") or {}
    assert isinstance(commands, dict)
    for command in commands.values():
        command.add_arguments()
    names = {
        name: {word for one in commands[name]._actions for word in one.option_strings}
        for name in ("run", "pack")
    }
    assert names["run"] - names["pack"] == {"--no-mlflow", "--again", "--only"}


def test_a_machine_without_rich_is_shown_its_results_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row("x", model="ssd", status="failed", failed_stage="build", reason="no memory")]
    assert _as_text(rows).startswith("Leaderboard of sweep s")
    monkeypatch.setitem(sys.modules, "rich", None)
    assert _as_text(rows).startswith("| model |") and "| ssd |" in _as_text(rows)
    assert "failed at build: x" in _as_text(rows)

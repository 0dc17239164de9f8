"""`farm import`: what another machine says stays apart, and what no record has is refused."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import socket
import sys
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import H200, MATRIX, PROJECT, full_disk

from farm.cli import main
from farm.cli.plan import as_json
from farm.config.loader import Matrix, load_matrix
from farm.config.schema import VerifySpec
from farm.engine.scheduler import run_steps
from farm.errors import InputError
from farm.offline import importing, records
from farm.offline.archive.members import Limits
from farm.offline.archive.reading import members
from farm.offline.manifest import VERSION, Manifest
from farm.plan import Plan, make_plan
from farm.plan.keys import canonical
from farm.plan.machines.placement import cpu_model
from farm.results import arrays, leaderboard
from farm.results.cells import read_agreement
from farm.results.rows import make_rows
from farm.results.tables.render import FORMATS, render
from farm.specs import ModelFacts, Ref, Tolerance
from farm.store import Failure, Record, Store
from farm.store.facts import facts_from
from farm.store.integrity import of_file
from farm.store.records import digest_of

FACTS = ModelFacts(("circle",), False, "[]")
AP = {f"box_ap{suffix}": 0.9999 for suffix in ("", "50", "75")}
SPEED = {
    **{f"latency_{name}_ms": 0.1 for name in ("p50", "mean", "min")},
    "throughput_per_s": 10_000.0, "samples": 99, "threads": 1, "batch": 1, "stable": True,
}  # fmt: skip
FIGURES: dict[str, dict[str, Any]] = {
    "check": {"classes": ["circle"], "masks": False, "pipeline": "[]"},
    "prepare": {"images": 6},
    "reference": AP,
    "export": {"onnx_bytes": 9, "onnx_nodes": 1, "opset": 17},
    "build": {"build_s": 1.0, "engine_bytes": 9},
    "verify": {"images": 6, "boxes": 1},
    "evaluate": {**AP, "images": 6, "images_per_s": 9.0},
    "measure": SPEED,
}
COLUMNS = ("reference_score", "engine_score", "iou", "box_diff_px", "mask_iou", "mask_score_diff")
PAIR = (0.9, 0.9, 1.0, 0.0, np.nan, np.nan)


@pytest.fixture
def matrix(small_matrix: Path) -> Matrix:
    return load_matrix(small_matrix)


def planned(matrix: Matrix) -> Plan:
    return make_plan(matrix, lambda key: FACTS)


def forge(plan: Plan, store: Store, device: str = cpu_model(), **node: str) -> None:
    """Records of all steps, each with the right key, by somebody who ran none of them."""
    for step in plan.steps.values():
        folder = store.work_folder(step.key)
        if step.stage == "verify":
            pairs = dict(zip(COLUMNS, np.array([PAIR], np.float32).T, strict=True))
            np.savez(folder / "pairs.npz", **pairs)
        if step.stage == "measure":
            np.save(folder / "samples.npy", np.full(99, 0.1))
        if step.stage in ("export", "build"):
            (folder / "engine").write_bytes(b"malicious")
        made = Record(
            step.stage, step.key, step.label, FIGURES[step.stage], canonical(step.inputs),
            dict(step.toolchain), 1.0, 1, {"device": device, **node}, code=step.code,
        )  # fmt: skip
        store.publish(folder, made)


def archived(plan: Plan, store: Store, archive: Path) -> Path:
    sweep = Manifest(VERSION, plan.name, {}, {}, plan.cells)
    records.save(sweep, store, archive)
    return archive


@pytest.fixture
def forged(matrix: Matrix, tmp_path: Path) -> Path:
    """An archive whose keys, digests and figures are all in order, and all made up."""
    forge(planned(matrix), store := Store(tmp_path / "theirs"))
    return archived(planned(matrix), store, tmp_path / "forged.tar.gz")


def take_in(path: Path, results: Path) -> int:
    return importing.run(Namespace(records=path, results=str(results), no_mlflow=True))


def best(results: Path, *words: str, target: str = "cpu") -> int:
    words = ("farm", "best", "--target", target, "--results", str(results), *words)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", list(words))
        main.main()
    return int(end.value.code or 0)


def test_a_forged_archive_stands_for_no_step(matrix: Matrix, forged: Path, tmp_path: Path) -> None:
    assert take_in(forged, tmp_path / "r") == 0
    plan, store = planned(matrix), Store(tmp_path / "r" / "store")
    assert not any(step["in_store"] for step in as_json(plan, store)["steps"].values())
    assert make_plan(matrix, facts_from(store)).unchecked == ("onestage",)
    started: list[str] = []

    class Stops(Exception):
        """In place of an executor: what it would be asked to do is all that matters."""

    def start() -> Any:
        started.append("it has work")
        raise Stops

    with pytest.raises(Stops):
        run_steps(plan.steps, store, start, watcher=None)  # type: ignore[arg-type]
    assert started


def test_a_forged_archive_is_not_shipped_in_silence(
    matrix: Matrix, forged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_in(forged, tmp_path / "r")
    table = capsys.readouterr().out
    assert "imported (forged.tar.gz)" in table and " from" in table
    (row,) = leaderboard.read(tmp_path / "r")
    assert row["origin"].endswith(" forged.tar.gz") and row["box_ap"] == 0.9999
    assert best(tmp_path / "r") == 1  # this very machine could run it
    out = capsys.readouterr().out
    assert "No engine to ship" in out and "this machine is its device: run the cell" in out


def test_an_import_of_another_device_is_picked_by_its_origin(
    matrix: Matrix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(planned(matrix), store := Store(tmp_path / "theirs"), device="another processor")
    take_in(archived(planned(matrix), store, tmp_path / "a.tar.gz"), tmp_path / "r")
    shutil.copytree(store.root, tmp_path / "r" / "store", dirs_exist_ok=True)  # engines, too
    capsys.readouterr()
    assert best(tmp_path / "r") == 0
    out = capsys.readouterr().out
    assert out.startswith("Imported, not built here: onestage") and "a.tar.gz" in out
    assert "malicious" not in out and "engine  " not in out  # no engine is named as if it were it
    assert best(tmp_path / "r", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)["targets"][0]["picks"]
    assert found["best"]["origin"].endswith("a.tar.gz") and found["files"] == {}


def test_what_ran_here_stays_and_is_preferred(
    matrix: Matrix, forged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, store = planned(matrix), Store(tmp_path / "r" / "store")
    take_in(forged, tmp_path / "r")
    limits = matrix.spec.verify
    (row,) = make_rows(plan, store, limits, {})
    assert row["origin"] != "here" and row["status"] == "ok"  # nothing of the cell ran here yet
    forge(plan, store, host="mine")
    (row,) = make_rows(plan, store, limits, {})
    assert row["origin"] == "here"
    leaderboard.write([{**row, "box_ap": 0.5}], tmp_path / "r", plan.name)
    take_in(forged, tmp_path / "r")
    assert "1 cells of small on cpu keep the figures that were made here" in capsys.readouterr().err
    (row,) = leaderboard.read(tmp_path / "r")
    assert row["origin"] == "here" and row["box_ap"] == 0.5
    assert best(tmp_path / "r") == 0 and "Ship onestage" in capsys.readouterr().out


def test_a_failure_here_is_not_hidden_by_an_import(
    matrix: Matrix, forged: Path, tmp_path: Path
) -> None:
    plan, store = planned(matrix), Store(tmp_path / "r" / "store")
    take_in(forged, tmp_path / "r")
    (export,) = plan.of_stage("export")
    store.record_failure(Failure("export", export.key, export.label, "no such operator"), None)
    (row,) = make_rows(plan, store, matrix.spec.verify, {})
    assert row["status"] == "failed" and row["origin"] == "here" and row["box_ap"] is None


def test_failures_of_another_machine_are_not_ours(matrix: Matrix, tmp_path: Path) -> None:
    plan, theirs = planned(matrix), Store(tmp_path / "theirs")
    for step in plan.steps.values():
        theirs.record_failure(Failure(step.stage, step.key, step.label, "no"), None)
    take_in(archived(plan, theirs, tmp_path / "a.tar.gz"), tmp_path / "r")
    store = Store(tmp_path / "r" / "store")
    assert not any(store.failure(key) for key in plan.steps)
    again = make_plan(matrix, facts_from(store))
    assert again.unchecked and not any(cell.refused for cell in again.cells)
    (row,) = leaderboard.read(tmp_path / "r")
    assert row["status"] == "failed" and row["origin"] != "here"  # shown as theirs


def test_records_that_an_earlier_version_put_among_ours_run_again(
    matrix: Matrix, tmp_path: Path
) -> None:
    """They name no machine: an import took its name away."""
    plan, store = planned(matrix), Store(tmp_path)
    forge(plan, store)
    assert not any(store.record(step.ref) for step in plan.steps.values())
    assert all(store.any_record(step.ref) for step in plan.steps.values())


# --- archives that hurt -------------------------------------------------------------------------


def entry(name: str, data: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in more.items():
        setattr(member, key, value)
    return member, data


def tar(
    path: Path, *entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, "w:gz", format=form) as file:
        for member, data in entries:
            file.addfile(member, io.BytesIO(data))
    return path


KEY = "ab" + 62 * "0"
RECORD = f"store/check/ab/{KEY}/record.json"


def sparse(path: Path) -> Path:
    """A file of 512 bytes that says it has 8 GB of holes, by the extension that GNU tar writes."""
    headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": RECORD,
        "GNU.sparse.realsize": str(8 << 30),
    }  # fmt: skip
    return tar(path, entry("x", b"1\n0\n512\n".ljust(1024, b"\0"), pax_headers=headers),
               form=tarfile.PAX_FORMAT)  # fmt: skip


def header_bomb(path: Path) -> Path:
    """A long name of 100 MB: most readers have it in memory before they look at it."""
    return tar(path, entry("x", 100_000_000 * b"x", type=tarfile.GNUTYPE_LONGNAME))


def gzip_bomb(path: Path) -> Path:
    """A file that claims to have 100 GB, of which nothing is there."""
    header, _ = entry(RECORD)
    header.size = 100 << 30
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT)))
    return path


def chain(path: Path) -> Path:
    """Extension headers of extension headers: as deep as the stack."""
    more = tarfile.TarInfo("x")
    more.type, more.size = tarfile.XHDTYPE, 0
    path.write_bytes(gzip.compress(more.tobuf(tarfile.USTAR_FORMAT) * 50_000))
    return path


def raw_name(path: Path) -> Path:
    name = os.fsdecode(b"store/check/\xff\xfe")
    return tar(path, entry(name, b"{}"))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pipe": (lambda p: tar(p, entry("store/p", type=tarfile.FIFOTYPE)), "a pipe"),
    "device": (lambda p: tar(p, entry("d", type=tarfile.CHRTYPE)), "a device"),
    "symbolic link": (
        lambda p: tar(p, entry(RECORD, type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "a symbolic link",
    ),
    "hard link": (
        lambda p: tar(p, entry(RECORD, type=tarfile.LNKTYPE, linkname="sweep.json")),
        "a hard link",
    ),
    "link of a folder": (
        lambda p: tar(p, entry("store", type=tarfile.SYMTYPE, linkname="/tmp"), entry("store/x")),
        "'store' is no regular file",
    ),
    "unknown type": (lambda p: tar(p, entry("x", type=b"Z")), "regular|damaged|version"),
    "absolute": (lambda p: tar(p, entry("/tmp/farm-escaped", b"x")), "no relative path"),
    "climbing": (lambda p: tar(p, entry("store/../../x", b"x")), "no plain path"),
    "climbing folder": (lambda p: tar(p, entry("../x", type=tarfile.DIRTYPE)), "no plain path"),
    "backslashes": (lambda p: tar(p, entry("..\\x", b"x")), "no relative path"),
    "twice": (lambda p: tar(p, entry(RECORD, b"{}"), entry(RECORD, b"{}")), "appears twice"),
    "twice by a dot": (
        lambda p: tar(p, entry("sweep.json", b"{}"), entry("./sweep.json", b"{}")), "appears twice",
    ),
    "capitals": (
        lambda p: tar(p, entry("sweep.json", b"{}"), entry("SWEEP.json", b"{}")), "in capitals",
    ),
    "escape in a name": (lambda p: tar(p, entry("\x1b[2Jx", b"x")), "cannot be printed"),
    "line end in a name": (
        lambda p: tar(p, entry("a\nfarm: all is well", b"x")), "cannot be printed",
    ),
    "right to left": (lambda p: tar(p, entry("a\u202egnp.exe", b"x")), "cannot be printed"),
    "no UTF-8": (raw_name, "cannot be printed"),
    "sparse": (sparse, "sparse|no regular file"),
    "header bomb": (header_bomb, "larger than any name"),
    "claims 100 GB": (gzip_bomb, "at most"),
    "chained headers": (chain, "refused|damaged"),
    "engine": (
        lambda p: tar(p, entry(f"store/build/ab/{KEY}/engine.plan", b"x")),
        "records of build have no such file",
    ),
    "pairs of another stage": (
        lambda p: tar(p, entry(f"store/measure/ab/{KEY}/pairs.npz", b"x")), "have no such file",
    ),
    "unknown stage": (
        lambda p: tar(p, entry(f"store/tmp/ab/{KEY}/record.json", b"{}")), "have no such file",
    ),
    "other place": (lambda p: tar(p, entry("store/failed/x.log", b"x")), "unexpected"),
    "large record": (lambda p: tar(p, entry(RECORD, 5_000_000 * b" ")), "at most"),
    "no archive": (lambda p: written(p, b"\x1f\x8bnothing"), "damaged"),
    "empty": (lambda p: written(p, b""), "damaged|no folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_hurts_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, said = HOSTILE[kind]
    archive = make(tmp_path / "a.tar.gz")
    with pytest.raises(InputError, match=said) as error:
        take_in(archive, tmp_path / "r")
    assert str(archive) in error.value.where
    assert error.value.message.isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz"]


def test_what_lies_beside_the_records_is_not_taken(forged: Path, tmp_path: Path) -> None:
    with tarfile.open(forged) as file:
        own = [(one, file.extractfile(one).read()) for one in file]  # type: ignore[union-attr]
    more = tar(tmp_path / "more.tar.gz", *own, entry("evil.py", b"import os"), entry("d/x", b"x"))
    folder = records.extract(more, tmp_path / "scratch")
    assert sorted(path.name for path in folder.iterdir()) == ["store", "sweep.json"]


def test_no_more_files_than_allowed(tmp_path: Path) -> None:
    many = tar(tmp_path / "a.tar.gz", *(entry(str(i)) for i in range(12)))
    folders = tar(tmp_path / "b.tar.gz", *(entry(str(i), type=tarfile.DIRTYPE) for i in range(30)))
    large = tar(tmp_path / "c.tar.gz", *(entry(str(i), 99 * b"x") for i in range(9)))
    for path in (many, folders, large):
        with pytest.raises(InputError, match="more than"):
            for _ in members(path, Limits(files=10, file=100, total=800), "an archive"):
                pass


def folder_with(kind: str, folder: Path) -> Iterator[None]:
    place = folder / "store" / "check"
    if kind == "link":
        (place / "x").symlink_to("/etc/passwd")
    elif kind == "link of a folder":
        (folder / "store" / "more").symlink_to("/etc")
    elif kind == "pipe":
        os.mkfifo(place / "x")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place / "x"))
            yield
            return
    elif kind == "pipe in a record's place":
        record = next(place.glob("*/*/record.json"))
        record.unlink()
        os.mkfifo(record)
    yield


@pytest.mark.parametrize(
    "kind", ["link", "link of a folder", "pipe", "socket", "pipe in a record's place"]
)
def test_a_folder_that_hurts_is_refused_by_name(
    kind: str, h200: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name has a hundred characters at most
    folder = Path(h200.name)
    for _ in folder_with(kind, folder):
        with pytest.raises(InputError, match="is no regular file"):
            take_in(folder, tmp_path / "r")
    assert not (tmp_path / "r").exists()


# --- records that are none ----------------------------------------------------------------------

NAN = float("nan")
WRONG: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "AP over 1": ("evaluate", lambda r: r["figures"].update(box_ap=1.5)),
    "AP as text": ("evaluate", lambda r: r["figures"].update(box_ap="0.9")),
    "interval as text": ("evaluate", lambda r: r["figures"].update(box_ap_drop_high="0")),
    "AP is NaN": ("evaluate", lambda r: r["figures"].update(box_ap=NAN)),
    "AP as a list": ("reference", lambda r: r["figures"].update(box_ap=[0.9])),
    "latency of 0": ("measure", lambda r: r["figures"].update(latency_p50_ms=0)),
    "negative latency": ("measure", lambda r: r["figures"].update(latency_p50_ms=-1.0)),
    "infinite throughput": ("measure", lambda r: r["figures"].update(throughput_per_s=1e999)),
    "no latency at all": ("measure", lambda r: r["figures"].pop("latency_p50_ms")),
    "huge count": ("build", lambda r: r["figures"].update(engine_bytes=1 << 70)),
    "figures null": ("measure", lambda r: r.update(figures=None)),
    "a newer field": ("measure", lambda r: r.update(signature="x")),
    "a field less": ("measure", lambda r: r.pop("label")),
    "seconds as text": ("export", lambda r: r.update(seconds="fast")),
    "negative seconds": ("export", lambda r: r.update(seconds=-3)),
    "a list for a mapping": ("export", lambda r: r.update(toolchain=[["torch", "2"]])),
    "numbers as versions": ("export", lambda r: r.update(toolchain={"torch": 2})),
    "a stage of others": ("export", lambda r: r.update(stage="build")),
    "a key of others": ("export", lambda r: r.update(key=KEY)),
    "facts of no model": ("check", lambda r: r["figures"].update(classes="circle")),
    "facts of more": ("check", lambda r: r["figures"].update(trusted=True)),
    "a suppression that is none": ("check", lambda r: r["figures"].update(suppression={"iou": 1})),
    "a file that climbs": ("verify", lambda r: r.update(files={"../../x": 3})),
    "a device that is none": ("measure", lambda r: r["node"].update(device=["cpu"])),
    "nested": ("measure", lambda r: r["inputs"].update(x=json.loads(500 * "[" + 500 * "]"))),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Path]:
    """The plan, a store with all of its records, and a folder of records as it is brought."""
    place = tmp_path_factory.mktemp("theirs")
    path = place / "small.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    plan, store = planned(load_matrix(path)), Store(place / "store")
    forge(plan, store, host="mine")
    archive = archived(plan, store, place / "a.tar.gz")
    return plan, store.root, records.extract(archive, place / "scratch")


@pytest.mark.parametrize("kind", WRONG)
def test_a_record_of_other_types_is_torn_here_and_refused_from_there(
    kind: str, theirs: tuple[Plan, Path, Path], tmp_path: Path
) -> None:
    stage, change = WRONG[kind]
    plan, root, brought = theirs
    store = Store(shutil.copytree(root, tmp_path / "store"))
    (step,) = plan.of_stage(stage)
    assert store.record(step.ref) is not None
    spoil(store.path(step.ref) / "record.json", change)
    assert store.record(step.ref) is None and store.any_record(step.ref) is None
    if stage == "check":
        assert facts_from(store)(step.key) is None
    (row,) = make_rows(plan, store, VerifySpec(), {})
    assert row["status"] == "pending" and row["reason"] == f"{stage} has not run"

    folder = Path(shutil.copytree(brought, tmp_path / "brought"))
    without_digests(folder)
    place = folder / "store" / stage / step.key[:2] / step.key / "record.json"
    spoil(place, change)
    with pytest.raises(InputError) as error:
        take_in(folder, tmp_path / "r")
    assert str(place) in str(error.value) and not (tmp_path / "r").exists()


def spoil(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(sealed(record)))


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """With the digest of the changed record, so that what is tested does not depend on that."""
    return {**record, "digest": digest_of(record)}


def without_digests(folder: Path) -> None:
    """As archives are from before there were any: nothing else finds the change."""
    sweep = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**sweep, "digests": {}}))


ANY: list[Any] = [
    None, "", "x\x1b[2J\ud800", -1, 0, 1 << 70, 1e308, NAN, True, [], [1], {}, {"x": [None]},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: its holder, and its name or number there."""
    for name, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, name
        if isinstance(inner, dict | list):
            yield from places(inner)


def test_whatever_a_record_holds_makes_a_row(
    theirs: tuple[Plan, Path, Path], tmp_path: Path
) -> None:
    """Three hundred records with any value in any place: torn, or a row that every table shows."""
    plan, root, _ = theirs
    store, random_ = Store(shutil.copytree(root, tmp_path / "store")), random.Random(1)
    steps, states = list(plan.steps.values()), []
    for _ in range(300):
        path = store.path(random_.choice(steps).ref) / "record.json"
        kept = path.read_text()
        record = json.loads(kept)
        holder, name = random_.choice(list(places(record)))
        holder[name] = random_.choice(ANY)
        path.write_text(json.dumps(sealed(record)))
        rows = make_rows(plan, store, VerifySpec(), {})
        states.append(rows[0]["status"])
        leaderboard.write(rows, tmp_path, "s")
        (read,) = leaderboard.read(tmp_path)
        for form in FORMATS:
            assert "\x1b" not in render([read], form)
        path.write_text(kept)
    assert states.count("ok") > 30 and states.count("pending") > 30


BAD_JSON = [
    b"", b"null", b"[]", b"7", b'"text"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"stage": NaN}',
    b"1" * 5000, b'{"stage": "check", "stage": 3}',
]  # fmt: skip


@pytest.mark.parametrize("data", BAD_JSON, ids=range(len(BAD_JSON)))
def test_what_is_no_record_and_no_failure_is_torn(data: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.path(Ref("check", KEY))
    place.mkdir(parents=True)
    (place / "record.json").write_bytes(data)
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / f"{KEY}.json").write_bytes(data)
    assert store.any_record(Ref("check", KEY)) is None
    assert store.failure(KEY) is None
    assert facts_from(store)(KEY) is None


@pytest.mark.parametrize(
    "wrong", [{"reason": None}, {"reason": 3}, {"key": 64 * "0"}, {"more": 1}, {"stage": ["x"]}]
)
def test_a_failure_of_other_types_is_none(wrong: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record_failure(Failure("check", KEY, "x", "why"), None)
    assert store.failure(KEY) is not None
    spoil(tmp_path / "failed" / f"{KEY}.json", lambda one: one.update(wrong))
    assert store.failure(KEY) is None


def test_a_failure_that_says_nothing_is_one_all_the_same(tmp_path: Path) -> None:
    """Else a sweep would check its model again and again."""
    Store(tmp_path).record_failure(Failure("check", KEY, "x", ""), None)
    facts = facts_from(Store(tmp_path))(KEY)
    assert facts is not None and facts.refused


def test_records_without_a_store_are_refused(h200: Path, tmp_path: Path) -> None:
    shutil.rmtree(h200 / "store")
    with pytest.raises(InputError, match="it has no records"):
        take_in(h200, tmp_path / "r")


def test_a_full_disk_is_not_called_a_torn_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "extract_member", full_disk)
    with pytest.raises(OSError, match="No space left") as error:
        take_in(H200, tmp_path / "r")
    assert not isinstance(error.value, InputError)


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "failed").mkdir()
    os.mkfifo(tmp_path / "failed" / f"{KEY}.json")
    assert Store(tmp_path).failure(KEY) is None


def test_figures_that_could_not_be_read_back_are_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for figures in ({"box_ap": NAN}, {"box_ap": 2.0}):
        with pytest.raises(ValueError, match=r"NaN|box_ap"):
            made = Record("evaluate", KEY, "x", figures, {}, {}, 1.0, 1, {})
            store.publish(store.work_folder(KEY), made)


def ones() -> dict[str, Any]:
    return {name: np.ones(1, np.float32) for name in COLUMNS}


def claims(path: Path) -> None:
    """A header of 10^15 numbers: 4 PB of memory, if it is believed."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
    bad = io.BytesIO()
    np.lib.format.write_array_header_1_0(bad, header)
    np.savez(path, **{name: one for name, one in ones().items() if name != "iou"})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("iou.npy", bad.getvalue() + 4 * b"x")


ARRAYS: dict[str, Callable[[Path], object]] = {
    "a pickle": lambda p: np.savez(p, **{**ones(), "iou": np.array([{}], object)}),
    "texts": lambda p: np.savez(p, **{**ones(), "iou": np.array(["x"])}),
    "two axes": lambda p: np.savez(p, **{**ones(), "iou": np.ones((1, 1), np.float32)}),
    "no axis": lambda p: np.savez(p, **{**ones(), "iou": np.float32(1)}),
    "unequal lengths": lambda p: np.savez(p, **{**ones(), "iou": np.ones(2, np.float32)}),
    "one less": lambda p: np.savez(p, iou=np.ones(1, np.float32)),
    "one more": lambda p: np.savez(p, **ones(), x=np.ones(1)),
    "no file of arrays": lambda p: p.write_bytes(b"x" * 99),
    "a bomb": lambda p: np.savez_compressed(p, **{n: np.tile(v, 9999) for n, v in ones().items()}),
    "claims more than it has": claims,
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_are_none_are_a_reason_here_and_refused_from_there(
    kind: str,
    theirs: tuple[Plan, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrays, "MOST_BYTES", 100_000)
    plan, root, brought = theirs
    (step,) = plan.of_stage("verify")
    for folder in (tmp_path / "store", tmp_path / "brought" / "store"):
        source = root if folder.parent == tmp_path else brought
        shutil.copytree(source, folder if source == root else folder.parent)
        place = folder / "verify" / step.key[:2] / step.key
        ARRAYS[kind](place / "pairs.npz")
        own = {
            "files": {"pairs.npz": (place / "pairs.npz").stat().st_size},
            "digests": {"pairs.npz": of_file(place / "pairs.npz")},
        }
        spoil(place / "record.json", lambda one, own=own: one.update(own))
    (row,) = make_rows(plan, Store(tmp_path / "store"), VerifySpec(), {})
    assert row["status"] == "failed" and "its pairs cannot be read" in row["reason"]
    without_digests(tmp_path / "brought")
    with pytest.raises(InputError, match=r"pairs\.npz: damaged"):
        take_in(tmp_path / "brought", tmp_path / "r")


def test_pairs_without_numbers_do_not_agree(tmp_path: Path) -> None:
    """NaN is larger than no limit: an engine whose scores are NaN must not pass for the same."""
    pairs = {**ones(), "engine_score": np.array([NAN], np.float32)}
    np.savez(tmp_path / "pairs.npz", **pairs)
    found = read_agreement(tmp_path / "pairs.npz", Tolerance())
    assert found.reason is not None and found.matched_fraction == 0


def test_a_sweep_with_other_cells_than_a_matrix_can_have_is_refused(
    theirs: tuple[Plan, Path, Path], tmp_path: Path
) -> None:
    plan, _, brought = theirs
    cell = plan.cells[0]
    for wrong in ({"opset": -1}, {"workspace_bytes": 1 << 70}, {"postprocess": "x\x1b"}):
        folder = Path(shutil.copytree(brought, tmp_path / "brought", dirs_exist_ok=True))
        bad = replace(cell, cell=replace(cell.cell, **wrong))
        sweep = json.loads((folder / "sweep.json").read_text())
        sweep["cells"][0]["cell"] |= {name: getattr(bad.cell, name) for name in wrong}
        (folder / "sweep.json").write_text(json.dumps(sweep))
        with pytest.raises(InputError, match=next(iter(wrong))):
            records.read_records(folder)

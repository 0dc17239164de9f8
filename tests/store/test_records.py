"""Records of another machine: those of an H200 that the project keeps, and what spoils some."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from conftest import H200, PROJECT, Farm

from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.offline import records
from farm.store import Failure, Store


def test_a_precision_has_thresholds_of_its_own() -> None:
    path = PROJECT / "matrices" / "gpu.yaml"
    limits = load_matrix(path).spec.verify
    assert limits.of("fp16").max_score_diff == 0.02 and limits.of("fp32").max_score_diff == 1e-3
    assert limits.of("fp16").min_iou == limits.min_iou
    for wrong in ("fp17: {max_score_diff: 1}", "fp16: {max_skore: 1}", "fp16: {min_iou: -1}"):
        with pytest.raises(InputError, match=r"verify\.precisions"):
            load_matrix(path, [f"verify.precisions={{{wrong}}}"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name": "gpu"', '"name": "../../../esc"', "name: '../../../esc' is not a name"),
        ('"target": "h200"', '"target": "../esc"', "target: '../esc' is not a name"),
        ('"model": "retinanet"', '"model": "a/b"', "model: 'a/b' is not a name"),
        ('"runtime": "tensorrt"', '"runtime": "nonesuch"', "unknown runtime 'nonesuch'"),
        ('"precision": "fp16"', '"precision": "fp17"', "unknown precision 'fp17'"),
        ('"reference": "', '"../reference": "', "unknown stage '../reference'"),
        ('"reference": "', '"reference": "../', "is not a key; expected 64 hex digits"),
    ],
)
def test_imported_names_are_those_a_matrix_can_have(
    h200: Path, old: str, new: str, said: str
) -> None:
    assert records.read_records(h200).name == "gpu"
    sweep = h200 / "sweep.json"
    whole = sweep.read_text()
    assert old in whole.replace('"reference": 2', "")
    sweep.write_text(whole.replace(old, new))
    with pytest.raises(InputError, match=re.escape(said)) as error:
        records.read_records(h200)
    assert error.value.where == str(sweep)


def test_an_imported_failure_is_the_one_that_its_file_names(h200: Path) -> None:
    sweep = records.read_records(h200)
    failure = Failure("build", sweep.cells[0].steps["build"], "x", "why")
    place = h200 / "store" / "failed" / f"{failure.key}.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(asdict(failure)))
    records.read_records(h200)
    for wrong in ({"key": "../../esc"}, {"stage": "check"}, {"reason": 3}):
        place.write_text(json.dumps(asdict(failure) | wrong))
        with pytest.raises(InputError, match=r"unexpected|expected a valid string") as error:
            records.read_records(h200)
        assert error.value.where == str(place)


def test_imported_files_have_their_digests(h200: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sweep = records.read_records(h200)
    assert records.import_records(sweep, h200, store) > 0
    assert records.import_records(sweep, h200, store) == 0
    assert not any(store.any_record(ref) or store.failure(ref.key) for ref in sweep.refs)
    records.save(sweep, store, tmp_path / "records.tar.gz")
    folder = records.extract(tmp_path / "records.tar.gz", tmp_path)
    assert records.read_records(folder).cells == sweep.cells

    def told(path: Path, data: bytes | None) -> str:
        good = path.read_bytes() if path.exists() else None
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(InputError) as error:
            records.read_records(folder)
        path.unlink() if good is None else path.write_bytes(good)
        records.read_records(folder)
        assert error.value.where == str(path)
        return error.value.message

    record = next((folder / "store" / "measure").glob("*/*/record.json"))
    found = json.loads(record.read_text())
    found["figures"]["latency_p50_ms"] = 0.001
    assert "changed: its sha256" in told(record, json.dumps(found).encode())
    pairs = next((folder / "store" / "verify").glob("*/*/pairs.npz"))
    assert "changed: its sha256" in told(pairs, pairs.read_bytes()[:-1] + b"x")
    assert "missing" in told(record, None)
    assert "unexpected" in told(record.with_name("more.bin"), b"x")


def test_pairs_that_cannot_be_read_are_refused(h200: Path, tmp_path: Path, farm: Farm) -> None:
    for pairs in (h200 / "store" / "verify").glob("*/*/pairs.npz"):
        pairs.write_bytes(pairs.read_bytes()[:-30] + 30 * b"x")
    done = farm("import", h200, "--results", tmp_path / "r", "--no-mlflow")
    assert done.returncode == 2 and "pairs.npz: damaged" in done.stderr, done.stderr
    assert not (tmp_path / "r").exists()


def test_the_committed_records_of_a_gpu_can_be_imported(tmp_path: Path, farm: Farm) -> None:
    words = ("import", H200, "--results", tmp_path, "--no-mlflow")
    done = farm(*words)
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(tmp_path / "leaderboard")
    assert rows.status.value_counts().to_dict() == {"pending": 31, "failed": 5, "ok": 4}
    good = rows[rows.status == "ok"]
    assert set(good.precision) == {"fp32"} and (good.matched_fraction == 1).all()
    assert good.max_score_diff.max() < 1e-4 and set(good.device) == {rows.device.iloc[0]}
    assert "NVIDIA H200" in rows.device.iloc[0]
    assert set(rows.origin) == {"faca1352cbd1 h200.tar.xz"}


def test_the_page_has_the_figures_of_the_records(tmp_path: Path, farm: Farm) -> None:
    """Each row of the table in docs/gpu.md, as it is rounded there."""
    words = ("import", H200, "--results", tmp_path, "--no-mlflow")
    assert farm(*words).returncode == 0
    rows = pd.read_parquet(tmp_path / "leaderboard")
    good = rows[rows.status == "ok"]
    text = (PROJECT / "docs" / "gpu.md").read_text()
    row = (
        r"^\| .*? \| (fixed|dynamic) \| fp32 \| ([\d.]+) s \| all \| (.*?) \| (.*?) px \| (.*?) ms"
    )
    table = re.findall(row, text, re.M)
    names = ["shape", "build_s", "max_score_diff", "max_box_diff_px", "latency_p50_ms"]
    found = [(one[0], f"{one[1]:.1f}", *one[2:]) for one in good[names].itertuples(index=False)]
    assert len(table) == len(found) == 4
    for shape, build, score, box, p50 in table:
        (own,) = (one for one in found if one[:2] == (shape, build))
        assert float(score) == pytest.approx(own[2], rel=0.05)
        assert float(box) == pytest.approx(own[3], rel=0.3, abs=5e-4)
        assert float(p50) == pytest.approx(own[4], rel=0.005)

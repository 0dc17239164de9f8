"""`dataset: config`: the data set that a model's own config names, with its classes and metric."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import PROJECT, Tool

from farm import specs
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.datasets import coco, custom, synthetic
from farm.datasets.prepared import Prepared
from farm.engine.executors import Choices
from farm.errors import InputError
from farm.plan import make_plan
from farm.sources import mmdet
from farm.specs import Dims
from farm.stages import Context, check, prepare
from farm.store import Store
from farm.store.facts import facts_from
from farm.sweep import run_sweep

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
COUNT = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn images with their annotations in three forms."""
    root = tmp_path_factory.mktemp("data")
    synthetic.draw(root, COUNT, 7, 160)
    document = json.loads((root / "annotations.json").read_text())
    voc, entries = root / "VOC2007", []
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / name).mkdir(parents=True)
    names = {one["id"]: one["name"] for one in document["categories"]}
    for image in document["images"]:
        own = [one for one in document["annotations"] if one["image_id"] == image["id"]]
        stem = Path(image["file_name"]).stem
        pixels = cv2.imread(str(root / "images" / image["file_name"]))
        cv2.imwrite(str(voc / "JPEGImages" / f"{stem}.jpg"), pixels)
        objects = "".join(
            _object(names[one["category_id"]], one["bbox"], i) for i, one in enumerate(own)
        )
        size = "<size><width>160</width><height>160</height></size>"
        (voc / f"Annotations/{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        entries.append(_entry(image, own, names))
    lines = "\n".join(Path(one["file_name"]).stem for one in document["images"])
    (voc / "ImageSets/Main/test.txt").write_text(lines)
    (root / "list.pkl").write_bytes(pickle.dumps(entries))
    return root


def _object(name: str, box: list[float], number: int) -> str:
    x, y, width, height = box
    ends = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
    corners = "".join(f"<{side}>{value:.0f}</{side}>" for side, value in ends.items())
    hard = int(number == 2)
    kind = f"<name>{name}</name><difficult>{hard}</difficult>"
    return f"<object>{kind}<bndbox>{corners}</bndbox></object>"


def _entry(image: dict[str, Any], own: list[Any], names: dict[int, str]) -> dict[str, Any]:
    boxes = np.array([one["bbox"] for one in own], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([synthetic.CLASSES.index(names[one["category_id"]]) for one in own])
    return {"filename": image["file_name"], "width": 160, "height": 160,
            "ann": {"bboxes": boxes, "labels": labels}}  # fmt: skip


FORMS = {
    "coco": "type='CocoDataset', ann_file='{0}/annotations.json', img_prefix='{0}/images'",
    "voc": "type='VOCDataset', ann_file='{0}/VOC2007/ImageSets/Main/test.txt',"
    " img_prefix='{0}/VOC2007'",
    "xml": "type='XMLDataset', ann_file='{0}/VOC2007/ImageSets/Main/test.txt',"
    " img_prefix='{0}/VOC2007'",
    "custom": "type='CustomDataset', ann_file='{0}/list.pkl', img_prefix='{0}/images'",
}


def config(folder: Path, test: str) -> Path:
    path = folder / "own.py"
    path.write_text(f"_base_ = ['{DEMO}/onestage.py']\ndata = dict(test=dict({test}))\n")
    return path


def model(path: Path) -> specs.Model:
    checkpoint = specs.File(str(DEMO / "onestage.pth"), "")
    return specs.Model("own", "mmdet", specs.File(str(path), ""), checkpoint)


def checked(path: Path, folder: Path) -> dict[str, Any]:
    inputs = specs.CheckInputs(model(path), specs.OtherDataset("config", ()))
    (folder / "work").mkdir(exist_ok=True)
    return dict(check.run(inputs, Context(Store(folder / "store"), folder / "work", 1)))


@pytest.mark.parametrize("form", FORMS)
def test_check_finds_the_data_set_and_its_classes(form: str, data: Path, tmp_path: Path) -> None:
    facts = checked(config(tmp_path, FORMS[form].format(data)), tmp_path)
    found = json.loads(facts["data"])
    assert found["type"] == {"xml": "voc"}.get(form, form)
    assert found.get("classes", list(facts["classes"])) == list(synthetic.CLASSES)
    assert found.get("map") == {"voc": "11-point", "xml": "area"}.get(form)
    assert found.get("inclusive") == {"voc": True, "xml": False}.get(form)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("type='LVISV1Dataset', ann_file='{0}/annotations.json'", "is a LVISV1Dataset"),
        ("type='WIDERFaceDataset', ann_file='{0}/list.pkl'", "is a WIDERFaceDataset"),
        ("type='NoDataset'", "is a 'NoDataset', which mmdet does not know"),
        (
            "type='RepeatDataset', times=2, dataset=dict(type='CocoDataset')",
            "several data sets, or one in a wrapper (RepeatDataset, CocoDataset)",
        ),
        ("ann_file='nowhere.json', img_prefix='{0}/images'", "'nowhere.json' is not there"),
        ("ann_file='{0}/annotations.json', img_prefix='no/where'", "'no/where', is not there"),
        (
            "type='VOCDataset', ann_file='{0}/annotations.json', img_prefix='{0}/VOC2007'",
            "is not in the data set's folder",
        ),
    ],
)  # fmt: skip
def test_a_data_set_that_the_farm_cannot_evaluate_is_refused_by_name(
    test: str, message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        checked(config(tmp_path, test.format(data)), tmp_path)
    assert message in str(error.value)


def test_a_data_set_with_a_users_code_is_refused_with_its_methods(
    data: Path, tmp_path: Path
) -> None:
    from mmdet.datasets import DATASETS, CocoDataset

    @DATASETS.register_module(force=True)
    class Halved(CocoDataset):  # type: ignore[misc]
        def get_ann_info(self, index: int) -> Any:
            return super().get_ann_info(index // 2)

    path = config(tmp_path, FORMS["coco"].format(data).replace("CocoDataset", "Halved"))
    with pytest.raises(InputError, match=r"a Halved with methods of its own \(get_ann_info\)"):
        checked(path, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not readable"),
        (pickle.dumps([Path("x")]), "it holds a pathlib"),
        (pickle.dumps({"a": 1}), "expected a list of images"),
        (pickle.dumps([{"filename": "a"}]), "entry 1 is not as CustomDataset's: KeyError"),
        (
            pickle.dumps([{"filename": "a", "width": 9, "height": 9, "ann": None}]),
            "entry 1 is not as CustomDataset's",
        ),
        (
            pickle.dumps([{"filename": "a", "width": 1, "height": 1,
                           "ann": {"bboxes": [[0, 0, 1, 1]], "labels": [9]}}]),
            "label 9 of 4 classes",
        ),
    ],
)  # fmt: skip
def test_a_wrong_list_of_images_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        custom.document(path, synthetic.CLASSES)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("form", ["voc", "custom"])
def test_the_map_is_what_mmdet_s_own_test_prints(
    form: str, data: Path, tmp_path: Path, tool: Tool
) -> None:
    path = config(tmp_path, FORMS[form].format(data))
    facts = checked(path, tmp_path)
    dataset = check._opened_as(json.loads(facts["data"]), specs.OtherDataset("config", ()))
    size = Dims(1, 3, 160, 160)
    shape = specs.Shape("fixed", size, size, size)
    (tmp_path / "prepared").mkdir()
    context = Context(Store(tmp_path / "store"), tmp_path / "prepared", 1)
    prepare.run(specs.PrepareInputs(facts["pipeline"], shape, dataset), context)
    prepared, detector = Prepared(tmp_path / "prepared"), mmdet.load(model(path))
    found = [detector.reference(prepared.image(i), one) for i, one in enumerate(prepared.metas)]
    figures = coco.average_precision(
        prepared.annotations, found, prepared.metas, detector.facts.classes, False
    )
    done = tool("test", path, DEMO / "onestage.pth", "--backend", "torch", "--eval", "mAP")
    printed = next(line for line in done.out.splitlines() if line.startswith("mAP: "))
    assert figures["voc_map"] == pytest.approx(float(printed.removeprefix("mAP: ")), abs=1e-4)
    assert 0.2 < figures["voc_map"] < 1


def test_a_sweep_evaluates_the_configs_own_data(data: Path, tmp_path: Path) -> None:
    config(tmp_path, FORMS["voc"].format(data))
    matrix = tmp_path / "m.yaml"
    matrix.write_text(
        f"name: own\nmodels: {{own: {{config: own.py, checkpoint: {DEMO}/onestage.pth}}}}\n"
        "shapes: {fixed: {opt: 160x160}}\nruntimes: [torch]\ndataset: config\nverify: {images: 2}\n"
        "measure: {seconds: 0.05, warmup_seconds: 0, min_samples: 10, throughput: false}\n"
    )
    results = Results(tmp_path / "r")
    sweep = run_sweep(load_matrix(matrix), results, Choices("inline", mlflow=False))
    (row,) = sweep.rows
    assert row["status"] == "ok", row["reason"]
    assert row["evaluate_images"] == COUNT and 0.2 < row["voc_map"] < 1
    assert row["voc_map"] == row["voc_map_reference"] and row["voc_map_drop"] == 0
    assert row["box_ap_drop_low"] == row["box_ap_drop_high"] == 0

    def prepared() -> str:
        plan = make_plan(load_matrix(matrix), facts_from(results.store()))
        assert not plan.unchecked
        (step,) = plan.of_stage("prepare")
        return step.key

    # What was checked stays so, and changed annotations are prepared anew.
    before, file = prepared(), data / "VOC2007/Annotations/000001.xml"
    text = file.read_text()
    file.write_text(text.replace("<annotation>", "<annotation> "))
    assert prepared() != before
    file.write_text(text)
    assert prepared() == before


def test_other_models_have_no_config_that_names_a_data_set(tmp_path: Path) -> None:
    matrix = tmp_path / "m.yaml"
    matrix.write_text(
        "name: own\nmodels:\n  o: {source: onnx, file: o.onnx, classes: [x]}\n"
        "shapes: {fixed: {opt: 160x160}}\nruntimes: [onnxruntime]\ndataset: config\n"
    )
    with pytest.raises(InputError, match=r"m.yaml:3: model 'o' has no config that names"):
        load_matrix(matrix)

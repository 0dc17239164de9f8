"""Which class a label is: found in the training data, said by the matrix, or refused."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PROJECT, Tool

from farm import specs
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.datasets import synthetic
from farm.datasets.coco_format import categories
from farm.engine.executors import Choices
from farm.errors import InputError, nearest
from farm.sources.mmdet import compat  # noqa: F401
from farm.stages import Context, check
from farm.store import Store
from farm.sweep import run_sweep

# isort: split
import mmcv
from mmdet.datasets import (
    DATASETS,
    PIPELINES,
    CocoDataset,
    CustomDataset,
    XMLDataset,
    dataset_wrappers,
)

from farm.sources.mmdet.data import labels, test_data
from farm.sources.mmdet.data.overrides import overridden

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

NAMES = ("a", "b", "c")
DEMO = PROJECT / "matrices" / "demo"


@DATASETS.register_module()
class OwnCoco(CocoDataset):  # type: ignore[misc]
    CLASSES = NAMES


@DATASETS.register_module()
class OwnVoc(XMLDataset):  # type: ignore[misc]
    CLASSES = NAMES


@DATASETS.register_module()
class SortedCoco(CocoDataset):  # type: ignore[misc]
    """Reads the file in a way of its own: from the last name to the first."""

    def load_annotations(self, ann_file: str) -> Any:
        infos = super().load_annotations(ann_file)
        self.cat_ids.sort(key=lambda one: self.coco.cats[one]["name"], reverse=True)
        self.cat2label = {one: i for i, one in enumerate(self.cat_ids)}
        return infos


def annotations(path: Path, names: str, **more: Any) -> str:
    """A COCO file with categories of these names, a letter each, whose ids fall; a box of each."""
    listed = [{"id": 90 - i, "name": name} for i, name in enumerate(names)]
    boxes = [
        {"id": i, "image_id": 7, "category_id": 90 - i, "bbox": [i, 0.1, 9, 9], "area": 81}
        for i in range(len(names))
    ]
    image = {"id": 7, "file_name": "7.png", "width": 64, "height": 64}
    document = {"images": [image], "annotations": boxes, "categories": listed}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document | more))
    return str(path)


def data_set(base: Any, **members: Any) -> Any:
    """A user's class; settings take it in place of a name."""
    return type("Users", (base,), members)


def coco(file: Any, kind: str = "CocoDataset", **more: Any) -> dict[str, Any]:
    return {"type": kind, "classes": NAMES, "ann_file": file, **more}


def ordered(train: Any, certain: bool = False, where: str = "/no/config.py") -> labels.Labels:
    return labels.in_label_order(mmcv.Config({"data": {"train": train}}), NAMES, certain, where)


# In the training data -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda data: data,
        lambda data: {"type": "RepeatDataset", "times": 3, "dataset": data},
        lambda data: {"type": "ClassBalancedDataset", "oversample_thr": 0.1, "dataset": data},
        lambda data: {"type": "MultiImageMixDataset", "pipeline": [], "dataset": data},
        lambda data: {"type": "ConcatDataset", "datasets": [data, data]},
        lambda data: [data, {"type": "RepeatDataset", "times": 2, "dataset": [data]}],
        lambda data: {**data, "ann_file": [data["ann_file"]] * 2},
        lambda data: {**data, "dataset": "a name that the class takes"},
    ],
)
def test_the_training_file_orders_the_labels_whatever_wraps_it(
    tmp_path: Path, wrapped: Any
) -> None:
    found = ordered(wrapped(coco(annotations(tmp_path / "train.json", "cxab"))))
    assert found.names == ("c", "a", "b")
    assert found.said_by == f"the training annotation file {tmp_path}/train.json"


@pytest.mark.parametrize("concatenated", [True, False])
def test_training_files_of_different_orders_contradict_one_another(
    tmp_path: Path, concatenated: bool
) -> None:
    files = [annotations(tmp_path / f"{order}.json", order) for order in ("abc", "cab")]
    each = {"type": "ConcatDataset", "datasets": [coco(file) for file in files]}
    found = ordered(each if concatenated else coco(files))
    assert found.contradicted and not found.said_by
    assert "abc.json" in found.doubt and "cab.json number the classes differently" in found.doubt


def test_a_lost_file_of_several_is_named_by_its_option(tmp_path: Path) -> None:
    file = annotations(tmp_path / "train.json", "lmn")  # of another model
    found = ordered({"type": "ConcatDataset", "datasets": [coco(["/lost/x.json", file])]})
    assert "(data.train.datasets.0.ann_file.0)" in found.doubt


def test_each_of_several_files_has_its_own_folder_of_images(tmp_path: Path) -> None:
    files = [annotations(tmp_path / f"{name}.json", "cab") for name in "xy"]
    of_each = {"img_prefix": ["x/", "y/"], "proposal_file": ("x.pkl", "y.pkl")}
    settings = coco(files, **of_each, data_root="d", separate_eval=False)
    found = test_data.parts(mmcv.Config({"data": {"train": settings}}), "train")
    assert [part.settings["img_prefix"] for part in found] == ["x/", "y/"]
    assert [part.settings["proposal_file"] for part in found] == ["x.pkl", "y.pkl"]
    assert not any("separate_eval" in part.settings for part in found)
    named = ordered(coco(files, "SortedCoco", img_prefix=["x/", "y/"], data_root=str(tmp_path)))
    assert named.names == ("c", "b", "a") and named.said_by, named.doubt


def test_a_training_file_without_a_class_is_not_the_models(tmp_path: Path) -> None:
    found = ordered(coco(annotations(tmp_path / "train.json", "ca")))
    assert found.contradicted and "has no category 'b'" in found.doubt


def test_a_training_file_of_other_classes_says_nothing(tmp_path: Path) -> None:
    """As in a stock config whose test data alone were replaced."""
    found = ordered(coco(annotations(tmp_path / "train.json", "xyz")))
    assert not found.contradicted and "train.json has none of its classes" in found.doubt


@pytest.mark.parametrize("kind", ["XMLDataset", "VOCDataset", "OwnVoc", "CustomDataset"])
def test_other_data_sets_number_labels_by_their_classes(kind: str) -> None:
    assert ordered(coco("train.txt", kind)).names == NAMES
    trained = {**coco("train.txt", kind), "classes": ["b", "c", "a"]}
    assert ordered(trained).names == ("b", "c", "a")
    assert ordered(trained, certain=True).names == NAMES  # the checkpoint's own
    only_tested = mmcv.Config({"data": {"test": coco("test.txt", kind)}})
    assert labels.in_label_order(only_tested, NAMES, False, "").said_by == f"the classes of {kind}"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("OwnCoco", "cab"),
        ("CityscapesDataset", "cab"),
        ("Objects365V2Dataset", "cab"),
        ("Objects365V1Dataset", "bac"),  # by the categories' ids, which fall
        ("SortedCoco", "cba"),
        ("CocoPanopticDataset", "cab"),
    ],
)
def test_each_kind_of_data_set_numbers_labels_as_mmdet_does(
    tmp_path: Path, kind: str, names: str
) -> None:
    file = annotations(tmp_path / "train.json", "cab")
    settings = coco(file, kind)
    if kind == "OwnCoco":
        del settings["classes"]
    assert "".join(ordered(settings).names) == names
    if kind != "CocoPanopticDataset":  # which reads another format
        dataset = DATASETS.get(kind)(file, [], classes=NAMES, test_mode=True)
        assert "".join(dataset.coco.cats[one]["name"] for one in dataset.cat_ids) == names


LOAD, PARSE, PREPARE = (
    getattr(CocoDataset, name)
    for name in ("load_annotations", "_parse_ann_info", "prepare_train_img")
)


def by_classes(self: Any, ann_file: str) -> Any:
    infos = LOAD(self, ann_file)
    names = {one["id"]: one["name"] for one in self.coco.dataset["categories"]}
    self.cat2label = {one: self.CLASSES.index(name) for one, name in names.items()}
    return infos


def by_classes_when_parsed(self: Any, img_info: Any, ann_info: Any) -> Any:
    names = {one: self.coco.cats[one]["name"] for one in self.cat_ids}
    self.cat2label = {one: self.CLASSES.index(name) for one, name in names.items()}
    return PARSE(self, img_info, ann_info)


def turned(self: Any, idx: int) -> Any:
    results = PREPARE(self, idx)
    results["ann_info"]["labels"] = 2 - results["ann_info"]["labels"]
    return results


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ({"load_annotations": by_classes}, "abc"),
        ({"_parse_ann_info": by_classes_when_parsed}, "abc"),
        ({"prepare_train_img": turned}, "bac"),  # of which `cat2label` knows nothing
        ({"evaluate": lambda *_: None, "of_mine": lambda *_: None}, "cab"),
    ],
)
@pytest.mark.parametrize("patched", [False, True])
def test_boxes_are_numbered_as_the_users_code_numbers_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: dict[str, Any],
    names: str,
    patched: bool,
) -> None:
    file = annotations(tmp_path / "train.json", "cab")
    kind = data_set(CocoDataset, **members)
    if patched:  # set into mmdet's own class, by a function that passes for mmdet's
        ((name, function), *_) = members.items()
        disguise = functools.wraps(getattr(CocoDataset, name))
        monkeypatch.setattr(CocoDataset, name, disguise(function))
        kind = CocoDataset
    found = ordered(coco(file, kind))
    assert "".join(found.names) == names and found.said_by, found.doubt


def test_a_data_set_whose_boxes_tell_nothing_is_in_doubt(tmp_path: Path) -> None:
    file = annotations(tmp_path / "train.json", "cab")
    empty = annotations(tmp_path / "empty.json", "cab", annotations=[])

    def halves(self: Any, idx: int) -> Any:
        """The first class's label is of two."""
        found = CocoDataset.get_ann_info(self, idx)
        found["labels"] = found["labels"] // 2
        return found

    own = data_set(CocoDataset, load_annotations=by_classes)
    for settings, reason in (
        (coco(empty, own), "no box that the file has, too"),
        (coco(file, data_set(CocoDataset, get_ann_info=halves)), "otherwise than its cat2label"),
        (coco(file, own, no_such="option"), "unexpected keyword argument"),
    ):
        found = ordered(settings)
        assert not found.said_by and not found.contradicted and reason in found.doubt
        assert "data.train is a Users, whose own code (" in found.doubt


def test_a_file_added_to_mmdets_folder_is_the_users(tmp_path: Path) -> None:
    kind = data_set(CocoDataset, load_annotations=by_classes, __module__="mmdet.datasets.mine")
    file = annotations(tmp_path / "train.json", "cab")
    code = compile("def load_annotations(self, f):\n    return by_classes(self, f)", "", "exec")
    scope: dict[str, Any] = {"__name__": "mmdet.datasets.mine", "by_classes": by_classes}
    exec(code, scope)
    kind.load_annotations = scope["load_annotations"]
    assert ordered(coco(file, kind)).names == NAMES


@pytest.mark.parametrize("registry", [DATASETS, PIPELINES])
def test_mmdets_own_classes_are_known_as_such(registry: Any) -> None:
    mmdets = [one for one in registry.module_dict.values() if one.__module__.startswith("mmdet.")]
    strangers = [one.__name__ for one in mmdets if overridden(one)]
    # Of these the farm prepares no test image by.
    assert {*strangers} <= {"AutoAugment", "InstaBoost", *AUGMENTATIONS} and len(mmdets) > 15


AUGMENTATIONS = (
    "BrightnessTransform",
    "ColorTransform",
    "ContrastTransform",
    "EqualizeTransform",
    "Rotate",
    "Shear",
    "Translate",
)


def test_a_wrapper_of_the_users_is_in_doubt(tmp_path: Path) -> None:
    inner = coco(annotations(tmp_path / "train.json", "cab"))
    kind = data_set(dataset_wrappers.RepeatDataset, __getitem__=lambda self, idx: None)
    found = ordered({"type": kind, "times": 2, "dataset": inner})
    assert (
        not found.said_by and "data.train is a Users, whose own code (__getitem__)" in found.doubt
    )
    found = ordered({"type": "NoSuchWrapper", "dataset": inner})
    assert "data.train is of no type that mmdet knows" in found.doubt


@pytest.mark.parametrize("own", [False, True])
def test_training_data_that_selects_other_classes_is_not_the_models(
    tmp_path: Path, own: bool
) -> None:
    """Of a class of the user's with `CLASSES`, too."""
    file = annotations(tmp_path / "train.json", "cabd")
    settings = coco(file, data_set(CocoDataset, CLASSES=("a", "b", "d")))
    settings = settings | {"classes": None} if own else coco(file) | {"classes": ["a", "b", "d"]}
    found = ordered(settings)
    assert found.contradicted and "has no category 'c'" in found.doubt
    (tmp_path / "names.txt").write_text("b\nc\na\n")
    settings["classes"] = str(tmp_path / "names.txt")
    assert ordered(settings).names == ("c", "a", "b")


# By its classes -----------------------------------------------------------------------------


def test_the_classes_of_the_training_data_number_labels_not_those_of_the_test(
    tmp_path: Path,
) -> None:
    (tmp_path / "names.txt").write_text("c\na\nb\n")
    of_a_file = coco("train.txt", "XMLDataset") | {"classes": "names.txt"}
    own = {"type": data_set(XMLDataset, CLASSES=("c", "a", "b")), "ann_file": "train.txt"}
    for settings in (of_a_file, own):
        found = ordered(settings, where=str(tmp_path / "config.py"))
        assert found.names == ("c", "a", "b") and found.said_by.startswith("the classes of ")
        sure = ordered(settings, certain=True, where=str(tmp_path / "config.py"))
        assert sure.names == NAMES  # as the checkpoint has kept `CLASSES`
    lost = ordered(of_a_file, where="/no/config.py")
    assert not lost.said_by and "not here: names.txt (data.train.classes)" in lost.doubt


@pytest.mark.parametrize(
    ("settings", "contradicted"),
    [
        ({"type": "XMLDataset", "classes": ["a", "b", "d"]}, True),
        ({"type": "XMLDataset", "classes": ["p", "q", "r"]}, False),
        ({"type": "VOCDataset"}, False),  # a stock config's, whose test data alone were replaced
        ({"type": "XMLDataset"}, False),
        ({"type": "XMLDataset", "classes": ["a", "b", "c", "a"]}, False),
    ],
)
def test_other_classes_in_the_training_data_are_in_doubt(
    settings: dict[str, Any], contradicted: bool
) -> None:
    found = ordered({"ann_file": "train.txt", **settings})
    assert not found.said_by and "data.train" in found.doubt
    assert found.contradicted is contradicted


@pytest.mark.parametrize("challenge", [False, True])
def test_open_images_are_numbered_by_their_table_of_labels(tmp_path: Path, challenge: bool) -> None:
    (tmp_path / "labels.csv").write_text("/m/1,b,3\n/m/2,c,1\n/m/3,a,2\n")
    kind = "OpenImagesChallengeDataset" if challenge else "OpenImagesDataset"
    settings = coco("train.txt", kind, label_file=str(tmp_path / "labels.csv"))
    assert "".join(ordered(settings).names) == ("cab" if challenge else "bca")
    lost = ordered(settings | {"label_file": "/no/labels.csv"})
    assert not lost.said_by and "/no/labels.csv (data.train.label_file)" in lost.doubt
    (tmp_path / "labels.csv").write_text("/m/1,b,3\n/m/2,c,1\n/m/3,a,7\n")
    assert bool(ordered(settings).said_by) is not challenge


def read_by_mine(self: Any, ann_file: str) -> Any:
    self.CLASSES = ["b", "c", "a"]
    return [{"id": 1, "filename": "1.png", "width": 64, "height": 64}]


@pytest.mark.parametrize("certain", [False, True])
def test_what_the_users_code_numbers_by_is_asked_of_it_or_in_doubt(
    tmp_path: Path, certain: bool
) -> None:
    (tmp_path / "train.txt").write_text("1\n")
    file, members = str(tmp_path / "train.txt"), {"load_annotations": read_by_mine}
    every = {"filter_empty_gt": False}
    xml = ordered(coco(file, data_set(XMLDataset, **members), **every), certain)
    assert xml.names == ("b", "c", "a") and xml.said_by == "the classes of Users", xml.doubt
    custom = data_set(CustomDataset, **members)
    parsed = data_set(XMLDataset, get_ann_info=lambda self, idx: None)
    for settings in (coco(file, custom), coco(file, parsed), coco("lost.txt", XML_OF_MINE)):
        found = ordered(settings, certain)
        assert not found.said_by and "whose own code (" in found.doubt
        tested = mmcv.Config({"data": {"test": settings}})
        assert not labels.in_label_order(tested, NAMES, certain, "").said_by


XML_OF_MINE = data_set(XMLDataset, load_annotations=read_by_mine)


@pytest.mark.parametrize("kind", ["LVISDataset", "LVISV1Dataset", "CocoPanopticDataset"])
def test_these_number_all_categories_of_the_file(tmp_path: Path, kind: str) -> None:
    assert ordered(coco(annotations(tmp_path / "x.json", "zyx"), kind)).names == ("z", "y", "x")
    assert ordered(coco(annotations(tmp_path / "y.json", "cxab"), kind)).contradicted


def test_the_training_file_is_looked_for_as_mmdet_does_and_above_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(tmp_path / "project" / "configs" / "own" / "net.py")
    Path(config).parent.mkdir(parents=True)
    annotations(tmp_path / "project" / "data" / "train.json", "cba")
    below = {"data_root": "data/", "ann_file": "train.json"}
    for where in ("data/train.json", "../../data/train.json"):
        assert ordered(coco(where), where=config).names == ("c", "b", "a")
    assert ordered(coco("") | below, where=config).names == ("c", "b", "a")
    annotations(tmp_path / "data" / "train.json", "bca")  # from the current folder it is nearer
    assert ordered(coco("") | below, where=config).names == ("b", "c", "a")


@pytest.mark.parametrize(
    ("train", "doubt"),
    [
        (None, "the config names none (data.train.ann_file)"),
        (coco("no.json"), "/no.json (data.train.ann_file)"),
        (coco(None), "the config names none (data.train.ann_file)"),
        (coco("x" * 5000), "that one is not here"),
        (coco("x.json", "NoSuchDataset"), "data.train is of no type that mmdet knows"),
        ([coco("torn.json")], "torn.json: Unterminated string"),
        ({"dataset": coco("list.json")}, "it has no list of categories (data.train.dataset."),
        (coco("nameless.json"), "a category in it has no name or no id"),
        (coco("empty.json"), "it is empty"),
        (coco("folder"), "that one is not here"),
    ],
)
def test_where_no_training_file_can_be_read_the_doubt_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any, doubt: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "torn.json").write_text('{"categories": [{"id": 1, "na')
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "empty.json").write_text("")
    annotations(tmp_path / "nameless.json", "", categories=[{"id": 3}])
    found = ordered(train)
    assert found.names == NAMES and not found.said_by and not found.contradicted
    assert doubt in found.doubt


def test_categories_are_found_in_any_annotation_file(tmp_path: Path) -> None:
    def names(document: Any, encoding: str = "utf-8", **style: Any) -> str:
        path = tmp_path / "x.json"
        path.write_text(json.dumps(document, **style), encoding)
        return "".join(one["name"] for one in categories(path))

    listed = [{"id": i, "name": name} for i, name in enumerate("bä")]
    assert names({"categories": listed, "images": []}) == "bä"
    assert names({"categories": listed}, ensure_ascii=False, indent=2) == "bä"
    inner = {"images": [{"id": 1, "categories": []}], "categories": listed}
    assert names(inner) == "bä"  # not those of an image
    assert names(inner, "utf-8-sig") == "bä"
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        assert names({"categories": listed}, encoding, ensure_ascii=False) == "bä"
    many = [{"id": i, "name": "x" * 60} for i in range(5000)]
    assert len(names({"categories": many, "licenses": []})) == 60 * 5000


# Their names --------------------------------------------------------------------------------


def names_of(
    tmp_path: Path, options: dict[str, Any], meta: dict[str, Any], count: int, where: str = ""
) -> tuple[str, ...]:
    settings = mmcv.Config({"data": {"test": {"type": "CocoDataset", "classes": NAMES}}})
    settings.merge_from_dict(dict(options))
    files = specs.File(where, ""), specs.File("x.pth", "")
    model = specs.Model("m", "mmdet", *files, cfg_options=tuple(options.items()))
    return labels.class_names(settings, meta, model, count)[0]


@pytest.mark.parametrize(
    ("options", "meta", "expected"),
    [
        ({}, {}, "abc"),
        ({}, {"CLASSES": ["x", "y"]}, "xy"),
        ({"data.test.classes": ["p", "q"]}, {"CLASSES": ["x", "y"]}, "pq"),
        ({"data": {"test": {"classes": ["p"]}}}, {"CLASSES": ["x", "y"]}, "p"),
        ({"data": {"test": [{"classes": ["p"]}]}}, {"CLASSES": ["x", "y"]}, "p"),
        ({"data.test": {"datasets": [{"classes": ["p"]}]}}, {"CLASSES": ["x", "y"]}, "p"),
        ({"data.test_dataloader.classes": ["p"]}, {"CLASSES": ["x", "y"]}, "xy"),
        ({"data.test.ann_file": "classes"}, {"CLASSES": ["x", "y"]}, "xy"),
        ({}, {"CLASSES": "x"}, "x"),
        ({}, {"dataset_meta": {"classes": ("u", "v"), "palette": []}}, "uv"),
        ({}, {"dataset_meta": {"CLASSES": "u"}}, "u"),
        ({}, {"dataset_meta": None, "CLASSES": 3}, "abc"),
    ],
)
def test_stated_names_come_before_the_checkpoints_and_the_configs(
    tmp_path: Path, options: dict[str, Any], meta: dict[str, Any], expected: str
) -> None:
    assert names_of(tmp_path, options, meta, len(expected)) == tuple(expected)


def test_only_the_checkpoints_order_is_the_trainings(tmp_path: Path) -> None:
    settings = mmcv.Config({"data": {"test": {"type": "CocoDataset", "classes": NAMES}}})
    for options, meta, certain in (
        ({}, {"CLASSES": NAMES}, True),
        ({"data.test.classes": [*NAMES]}, {"CLASSES": NAMES}, False),
        ({}, {}, False),
    ):
        files = specs.File("", ""), specs.File("x.pth", "")
        model = specs.Model("m", "mmdet", *files, cfg_options=tuple(options.items()))
        assert labels.class_names(settings, meta, model, 3) == (NAMES, certain)


def test_one_class_named_circle_is_one_name(tmp_path: Path) -> None:
    assert names_of(tmp_path, {}, {"CLASSES": "circle"}, 1) == ("circle",)
    with pytest.raises(InputError, match="the model has 6 classes and 1 names"):
        names_of(tmp_path, {}, {"CLASSES": "circle"}, 6)
    with pytest.raises(InputError, match=r"6 classes, and `data\.test\.classes` in cfg_options 1"):
        names_of(tmp_path, {"data.test.classes": ["circle"]}, {}, 6)


def test_a_file_of_classes_is_read_beside_the_config_too(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("q\np\n")
    options, where = {"data.test.classes": "names.txt"}, str(tmp_path / "config.py")
    assert names_of(tmp_path, options, {"CLASSES": ["x"]}, 2, where) == ("q", "p")
    with pytest.raises(InputError, match=r"not there: circle; for one class write \['circle'\]"):
        names_of(tmp_path, {"data.test.classes": "circle"}, {}, 1)


def test_the_nearest_name_is_found_whatever_its_case_and_spaces() -> None:
    assert nearest("CIRCLE ", ["circle", "star"]) == "; did you mean 'circle'?"
    assert nearest("truck", [" truck", "car"]) == "; did you mean ' truck'?"


# In check -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes: `annotations.json`, `reversed.json` (its categories), `lacking.json` (no star)."""
    folder = tmp_path_factory.mktemp("shapes")
    synthetic.draw(folder, 16, 7, 160)
    full = json.loads((folder / "annotations.json").read_text())
    turned = full | {"categories": full["categories"][::-1]}
    (folder / "reversed.json").write_text(json.dumps(turned))
    more = {"id": 77, "name": "hexagon"}
    wider = full | {"categories": [*full["categories"][2:], more, *full["categories"][:2]]}
    (folder / "wider.json").write_text(json.dumps(wider))
    return folder


def checked(
    drawn: Path,
    file: str,
    options: dict[str, Any] | None = None,
    limit: int | None = None,
    **more: Any,
) -> Any:
    model = specs.Model(
        "onestage",
        "mmdet",
        specs.File(str(DEMO / "onestage.py"), ""),
        specs.File(str(DEMO / "onestage.pth"), ""),
        cfg_options=tuple((options or {}).items()),
    )
    places = specs.File(str(drawn / "images"), ""), specs.File(str(drawn / file), "")
    values = specs.CheckInputs(model, specs.CocoDataset(*places, limit), **more)
    return check.run(values, Context(Store(drawn / "store"), drawn, 1))


def test_the_configs_order_is_taken_where_the_evaluation_file_has_it(drawn: Path) -> None:
    found = checked(drawn, "annotations.json")
    assert found["classes"] == synthetic.CLASSES
    assert found["labels_from"] == "the config, with the order of the evaluation file"


def test_another_order_is_refused_with_both_orders_and_the_ap_of_each(drawn: Path) -> None:
    with pytest.raises(InputError) as refused:
        checked(drawn, "reversed.json")
    told = str(refused.value)
    assert "The config's order: circle, square, triangle, star." in told
    assert "The evaluation file's order: star, triangle, square, circle." in told
    assert "0.7420 with the config's order, 0.1227 with the evaluation file's order" in told
    assert "the config names none (data.train.ann_file)" in told and "`labels: [...]`" in told
    with pytest.raises(InputError, match="The evaluation file's order: triangle, star, circle, sq"):
        checked(drawn, "wider.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_the_evaluation_file_may_be_in_any_encoding_of_unicode(drawn: Path, encoding: str) -> None:
    text = (drawn / "annotations.json").read_text()
    (drawn / "encoded.json").write_text(text, encoding)
    for labels_ in ((), synthetic.CLASSES):
        assert checked(drawn, "encoded.json", labels=labels_)["classes"] == synthetic.CLASSES
    (drawn / "encoded.json").write_text((drawn / "reversed.json").read_text(), encoding)
    with pytest.raises(InputError, match="The evaluation file's order: star, triangle, square"):
        checked(drawn, "encoded.json")


def test_no_image_behind_the_limit_is_opened(drawn: Path) -> None:
    full = json.loads((drawn / "annotations.json").read_text())
    behind = [{"id": 991, "file_name": "../../x"}, {"id": 992, "file_name": "lost.png"}]
    few = {one["id"] for one in full["images"][:2]}
    rows = [one for one in full["annotations"] if one["image_id"] in few]
    document = full | {"images": full["images"][:2] + behind, "annotations": rows}
    (drawn / "behind.json").write_text(json.dumps(document))
    assert checked(drawn, "behind.json", limit=2)["classes"] == synthetic.CLASSES
    with pytest.raises(InputError, match="lies outside of the folder"):
        checked(drawn, "behind.json", limit=3)


def test_check_parses_the_evaluation_file_once(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, opened = Path.read_bytes, list[str]()

    def counted(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    with pytest.raises(InputError, match="with the config's order"):
        checked(drawn, "reversed.json")
    assert opened.count("reversed.json") == 1


def test_training_data_that_contradicts_itself_is_refused_in_any_order(drawn: Path) -> None:
    files = [str(drawn / "annotations.json"), str(drawn / "reversed.json")]
    options = {"data.train": coco(files) | {"classes": synthetic.CLASSES}}
    with pytest.raises(InputError, match=r"reversed\.json number the classes differently"):
        checked(drawn, "annotations.json", options)
    stated = checked(drawn, "annotations.json", options, labels=synthetic.CLASSES)
    assert stated["labels_from"] == "`labels` of the matrix"


def test_a_config_of_pascal_voc_has_its_own_order_whatever_the_evaluation_file(drawn: Path) -> None:
    found = checked(drawn, "wider.json", {"data.test.type": "XMLDataset"})
    assert found["classes"] == synthetic.CLASSES
    assert found["labels_from"] == "the classes of XMLDataset"


def test_a_training_file_named_by_an_option_needs_no_type(drawn: Path) -> None:
    options = {"data.train": {"ann_file": str(drawn / "wider.json")}}
    found = checked(drawn, "reversed.json", options)
    assert found["classes"] == ("triangle", "star", "circle", "square")


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (("circle", "square", "triangle", "Star"), "labels: 'Star' is no class of the model; did"),
        (("star", "circle"), "labels: the model's class 'square' is missing; give all 4"),
    ],
)
def test_stated_labels_are_the_models_classes(
    drawn: Path, stated: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        checked(drawn, "annotations.json", labels=stated)


def test_long_orders_are_shown_where_they_differ() -> None:
    from farm.stages.check.labels import _shown

    names = tuple(f"n{i}" for i in range(80))
    other = (*names[:40], *names[:39:-1])
    shown = _shown({"x": names, "y": other})
    assert shown["x"].startswith("40 'n40', 41 'n41'") and shown["x"].endswith("... (80 labels)")
    assert shown["y"].startswith("40 'n79'") and len(shown["y"]) < 120


# All the way --------------------------------------------------------------------------------

MATRIX = """\
name: labels
models:
  ready:
    source: onnx
    file: {sources}/peaks.onnx
    classes: &classes [circle, square, triangle, star]
    preprocess: &preprocess
      {{mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}}
  onestage:
    config: {demo}/onestage.py
    checkpoint: {demo}/onestage.pth
    labels: [circle, square, triangle, star]
opsets: [17]
shapes:
  fixed: {{opt: 160x160}}
runtimes: [onnxruntime]
dataset: {{type: coco, images: {drawn}/images, annotations: {drawn}/reversed.json}}
measure: {{seconds: 0.05, warmup_seconds: 0, min_samples: 10}}
compare: false
verify: {{images: 2}}
"""


def written(tmp_path: Path, drawn: Path) -> Path:
    path = tmp_path / "labels.yaml"
    sources = PROJECT / "matrices" / "sources"
    path.write_text(MATRIX.format(sources=sources, demo=DEMO, drawn=drawn))
    return path


def test_ap_is_the_same_whatever_the_order_of_the_categories(tmp_path: Path, drawn: Path) -> None:
    matrix = load_matrix(written(tmp_path, drawn), ())
    with contextlib.redirect_stdout(io.StringIO()):
        sweep = run_sweep(matrix, Results(tmp_path / "r"), Choices(executor="inline", mlflow=False))
    rows = {row["model"]: row for row in sweep.rows}
    for model, value in (("ready", 0.6713), ("onestage", 0.7283)):
        row = rows[model]
        assert row["box_ap"] == pytest.approx(value, abs=5e-5), row
        assert row["box_ap_reference"] == pytest.approx(value, abs=5e-5)
    store = Store(tmp_path / "r" / "store")
    for stage in ("reference", "evaluate"):
        record = store.record(specs.Ref(stage, rows["ready"][f"{stage}_key"]))
        assert record is not None
        each = record.figures["box_ap_by_class"]
        assert set(each) == set(synthetic.CLASSES)
        assert sum(each.values()) / 4 == pytest.approx(record.figures["box_ap"])
        assert each["circle"] == pytest.approx(0.7277, abs=5e-5)


def test_wrong_labels_end_the_sweep_with_their_line(tmp_path: Path, drawn: Path) -> None:
    path = written(tmp_path, drawn)
    path.write_text(path.read_text().replace("labels: [circle", "labels: [round"))
    matrix = load_matrix(path, ("models.ready.classes=[star, circle, square]",))
    with pytest.raises(InputError) as wrong:
        run_sweep(matrix, Results(tmp_path / "r"), Choices(executor="inline", mlflow=False))
    assert f"{path}:12: labels: 'round' is no class of the model" in str(wrong.value)


# farm test ----------------------------------------------------------------------------------


def other_order(tmp_path: Path, drawn: Path, train: str, test: str) -> Path:
    path = tmp_path / "other.py"
    classes = ["star", "circle", "square", "triangle"]
    path.write_text(
        f"_base_ = {str(DEMO / 'onestage.py')!r}\n"
        f"data = dict(train=dict(type='CocoDataset', ann_file={str(drawn / train)!r}),\n"
        f"    test=dict(classes={classes}, ann_file={str(drawn / test)!r},\n"
        f"        img_prefix={str(drawn / 'images')!r}))\n"
    )
    return path


def test_pictures_of_farm_test_have_the_names_of_the_training_data(
    tool: Tool, tmp_path: Path, drawn: Path
) -> None:
    """As with a config whose classes stand in the training file's order: the same pictures."""
    checkpoint = tmp_path / "renamed.pth"
    content = torch.load(DEMO / "onestage.pth", weights_only=True)
    names = ("star", "circle", "square", "triangle")
    torch.save({**content, "meta": {"CLASSES": names}}, checkpoint)
    config = other_order(tmp_path, drawn, "annotations.json", "annotations.json")
    images = [
        f"data.test.ann_file={drawn}/annotations.json",
        f"data.test.img_prefix={drawn}/images",
    ]
    right = (DEMO / "onestage.py", DEMO / "onestage.pth", "--show-dir", "right")
    wrong = (config, checkpoint, "--show-dir", "other", "--eval", "bbox")
    assert tool("test", *right, "--backend", "torch", "--cfg-options", *images).code == 0
    done = tool("test", *wrong, "--backend", "torch")
    assert done.code == 0 and "mmdet's evaluation" not in done.err, done.err
    assert "bbox_mAP: 0.728" in done.out
    for path in sorted((tmp_path / "right").iterdir()):
        assert (tmp_path / "other" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (
            "annotations.json",
            "4 of 4 as other classes than they are, label 0 as 'star': it is 'cir",
        ),
        (
            "no.json",
            "label 0 as 'star'; in the config's order it is 'circle'. The training annotation file"
            " says which is right, and",
        ),
    ],
)
def test_farm_test_says_where_mmdets_evaluation_is_not_by_name(
    tool: Tool, tmp_path: Path, drawn: Path, train: str, told: str
) -> None:
    config = other_order(tmp_path, drawn, train, "reversed.json")
    words = ("test", config, DEMO / "onestage.pth", "--backend", "torch", "--eval", "bbox")
    done = tool(*words)
    assert done.code == 0 and told in done.err, done.err
    assert "bbox_mAP: 0.107" in done.out  # mmdet's own figure, as it is


def test_colours_follow_the_names() -> None:
    from farm.single.mmdet.dataset import palette

    class Data:
        CLASSES = NAMES
        PALETTE = [(1, 1, 1), (2, 2, 2), (3, 3, 3)]  # noqa: RUF012

    assert palette(Data, ("c", "a", "b")) == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert palette(Data, ("x", "y")) == Data.PALETTE


def test_the_label_order_is_in_the_keys_of_what_it_changes(tmp_path: Path, drawn: Path) -> None:
    from farm.plan import make_plan

    path = written(tmp_path, drawn)

    def keys(facts: specs.ModelFacts, *overrides: str) -> dict[str, str]:
        plan = make_plan(load_matrix(path, overrides), lambda key: facts)
        return {
            step.stage: step.key
            for step in plan.steps.values()
            if step.label.split()[0].split(".")[0] == "onestage"
        }

    facts = specs.ModelFacts(synthetic.CLASSES, False, "the same pipeline")
    first = keys(facts)
    turned = keys(
        replace(facts, classes=synthetic.CLASSES[::-1]),
        "models.onestage.labels=[star, triangle, square, circle]",
    )
    changed = {stage for stage in first if first[stage] != turned[stage]}
    assert changed >= {"check", "reference", "evaluate"}
    assert not changed & {"export", "build"}

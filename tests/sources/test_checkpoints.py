"""Checkpoints that are torn, odd or hostile: loaded rightly, or refused with the right reason."""

from __future__ import annotations

import json
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from farm.errors import InputError
from farm.sources.checkpoints import weights

pytestmark = pytest.mark.slow

CASES = Path(__file__).parents[1] / "cases" / "checkpoints"
HINT = "--allow-pickle"


def refusal(path: Path, allow_pickle: bool = False) -> str:
    with pytest.raises(InputError) as error:
        weights.read(str(path), allow_pickle)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and text.isprintable() and len(text) < 2000
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("climb_zip", "a zip file whose names climb out of it"),
        ("complex", "weights that no detector takes: a is complex"),
        ("empty", "empty (0 bytes)"),
        ("encrypted", "an encrypted zip file"),
        ("int_keys", "names of weights that are no text: 1"),
        ("legacy_tar", "a tar archive"),
        ("list", "its `state_dict` is a list"),
        ("nan", "weights are NaN or infinite: a"),
        ("no_weights", "it holds no weights; expected"),
        ("npz", "a zip file that torch did not write"),
        ("only_list", "it holds no weights but a list"),
        ("quant", "weights that no detector takes: a is quantised"),
        ("random", "torn or no checkpoint of torch's"),
        ("text", "torn or no checkpoint of torch's"),
        ("tuple_key", "names of weights that are no text: ('t',)"),
    ],
)
def test_what_holds_no_weights_is_refused_with_its_reason(case: str, said: str) -> None:
    for allow_pickle in (False, True):
        text = refusal(CASES / f"{case}.pth", allow_pickle)
        assert said in text and HINT not in text


@pytest.mark.parametrize("case", ["meta_int", "mixed"])
def test_weights_beside_other_plain_values_are_read(case: str) -> None:
    state, meta = weights.read(str(CASES / f"{case}.pth"), False)
    assert list(state) == ["a"] and state["a"].tolist() == [1] and meta == {}


def test_an_expanded_tensor_of_terabytes_is_not_written_out() -> None:
    path = str(CASES / "expanded.pth")
    state, _ = weights.read(path, False)
    module = torch.nn.Module()
    module.a = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(InputError, match="a is 100000000000, the module's is 2"):
        weights.fit(module, state, path, "module")
    module.a = torch.nn.Parameter(torch.zeros(3))
    weights.fit(module, {"a": torch.ones(1).expand(3)}, path, "module")
    assert module.a.tolist() == [1, 1, 1]


# Torn files are never a matter of trust -----------------------------------------------------


def saved(path: Path, content: Any, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


CONTENT = {"state_dict": {"a.weight": torch.ones(64)}, "where": Path("x"), "meta": {"epoch": 3}}
FORMATS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]


@pytest.mark.parametrize("how", FORMATS, ids=["zip", "legacy", "protocol"])
def test_a_whole_file_with_objects_needs_trust(tmp_path: Path, how: dict[str, Any]) -> None:
    path = saved(tmp_path / "m.pth", CONTENT, **how)
    assert HINT in refusal(path)
    assert weights.read(str(path), True)[1] == {"epoch": 3}


@pytest.mark.parametrize("how", FORMATS, ids=["zip", "legacy", "protocol"])
@pytest.mark.parametrize("kept", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95, -1])
def test_a_torn_file_with_objects_is_torn(tmp_path: Path, how: dict[str, Any], kept: float) -> None:
    path = saved(tmp_path / "m.pth", CONTENT, **how)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept > 0 else -1])
    for allow_pickle in (False, True):
        text = refusal(path, allow_pickle)
        assert "torn" in text and HINT not in text


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **how: Any) -> Path:
    """The zip file with each part changed, and its checksums right again."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in parts.items():
            if (new := change(name, data)) is not None:
                archive.writestr(name, new)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: data[:-9] if name.endswith(".pkl") else data,
        lambda name, data: b"\x80\x02junk" if name.endswith(".pkl") else data,
        lambda name, data: data[:10] if name.endswith("data/0") else data,
        lambda name, data: None if name.endswith("data/0") else data,
    ],
    ids=["pickle cut", "pickle garbage", "values cut", "values gone"],
)
def test_a_zip_file_whose_checksums_hold_can_be_torn_inside(
    tmp_path: Path, change: Callable[[str, bytes], bytes | None]
) -> None:
    text = refusal(rewritten(saved(tmp_path / "m.pth", CONTENT), change))
    assert "torn" in text and HINT not in text


@pytest.mark.parametrize("how", FORMATS[:2], ids=["zip", "legacy"])
def test_objects_of_a_package_that_is_not_installed_say_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    module = types.ModuleType("enginelib.logging")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": "enginelib.logging"})
    monkeypatch.setitem(sys.modules, "enginelib", types.ModuleType("enginelib"))
    monkeypatch.setitem(sys.modules, "enginelib.logging", module)
    path = saved(tmp_path / "m.pth", CONTENT | {"hub": [module.HistoryBuffer()]}, **how)
    monkeypatch.undo()
    for allow_pickle in (False, True):
        text = refusal(path, allow_pickle)
        assert "objects of enginelib, which is not installed" in text and HINT not in text


class Gone:
    pass


def test_objects_of_a_class_that_is_gone_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "m.pth", CONTENT | {"hook": Gone()})
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    assert "torch cannot load it: AttributeError: " in refusal(path, True)


# Other formats under the name of a checkpoint ------------------------------------------------


def safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)), str(path))


def bomb(path: Path) -> None:
    saved(path, {"state_dict": {"a": torch.zeros(3_000_000)}})
    rewritten(path, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (safetensors, "a safetensors file"),
        (script, "a TorchScript archive"),
        (bomb, "unpacks to over ten times its size"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (lambda path: path.write_text("\n<!DOCTYPE html><html>"), "a web page"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(40)), "compressed by gzip"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "torn or no checkpoint of torch's"),
    ],
    ids=["safetensors", "script", "bomb", "lfs", "html", "gzip", "pickle"],
)  # fmt: skip
def test_another_format_is_named(tmp_path: Path, write: Callable[[Path], None], said: str) -> None:
    write(tmp_path / "m.pth")
    text = refusal(tmp_path / "m.pth")
    assert said in text and HINT not in text


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": torch.ones(2, device="meta")}, "a has no values"),
        ({"a": torch.ones(2).to_sparse()}, "a is sparse"),
        ({"a": torch.ones(3).as_strided((10**6, 3), (0, 0))[:, :1].as_strided((2, 2), (1, 1))},
         "a overlaps itself"),
        ({"model": {"a": torch.ones(2)}, "ema": {"a": torch.ones(2)}}, "deeper, below model, ema"),
        ({"state_dict": {"module": {"a": torch.ones(2)}}}, "one level deeper, below module"),
        ({"a": torch.ones(2), "module.a": torch.zeros(2)}, "weights twice"),
        ({"a\x1b[31m": torch.tensor(float("nan"))}, r"infinite: 'a\x1b[31m'"),
    ],
    ids=["meta", "sparse", "overlap", "model", "module", "twice", "control"],
)  # fmt: skip
def test_weights_that_no_model_takes_are_named(
    tmp_path: Path, content: dict[str, Any], said: str
) -> None:
    assert said in refusal(saved(tmp_path / "m.pth", content))


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(InputError, match=r"weight is torch.int8, the config's is torch.float32"):
        state = {"weight": torch.ones(1, 1, dtype=torch.int8), "bias": torch.ones(1)}
        weights.fit(torch.nn.Linear(1, 1), state, "m.pth")

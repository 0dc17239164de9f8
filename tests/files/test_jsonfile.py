"""Values of JSON files as frozen dataclasses: what is taken, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from farm.errors import InputError
from farm.files import jsonfile


@dataclass(frozen=True)
class Part:
    size: int
    scales: tuple[float, ...] = ()


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    figures: Mapping[str, Any]
    flag: bool | None = None


PLAIN = {"name": "a", "parts": [{"size": 1, "scales": [0.5, 2]}], "figures": {"x": [1, None]}}


def test_a_value_becomes_what_was_written() -> None:
    found = jsonfile.decode(Whole, PLAIN)
    assert found == Whole("a", (Part(1, (0.5, 2.0)),), {"x": [1, None]})
    assert jsonfile.decode(Whole, json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": 5}, "name: expected a valid string, not 5"),
        ({"parts": [{"size": True}]}, "parts[0].size: expected a valid integer, not True"),
        ({"parts": [{"size": 1.5}]}, "parts[0].size: expected a valid integer, not 1.5"),
        ({"parts": [{"size": "1"}]}, "parts[0].size: expected a valid integer, not '1'"),
        ({"parts": [{"scales": []}]}, "'parts[0].size' is missing"),
        ({"parts": [{"size": 1, "scales": ["1"]}]}, "parts[0].scales[0]: expected a valid number"),
        ({"parts": [{"size": 1, "scales": [True]}]}, "parts[0].scales[0]: expected a valid number"),
        ({"parts": [{"size": 1, "scales": [float("inf")]}]}, "parts[0].scales[0]: expected a fin"),
        ({"parts": {"size": 1}}, "parts: expected a valid array"),
        ({"figures": []}, "figures: expected an object"),
        ({"flag": 1}, "flag: expected a valid boolean, not 1"),
        ({"more": 1}, "'more' is not known"),
        ({"parts": [{"size": 1, "more": 1}]}, "'parts[0].more' is not known"),
    ],
)
def test_another_type_is_refused_with_its_place(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError) as error:
        jsonfile.decode(Whole, {**PLAIN, **change}, "some.json")
    assert str(error.value).startswith(f"some.json: {reason}")


@pytest.mark.parametrize("value", [None, [], "text", 1, [PLAIN]])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="it: expected an object"):
        jsonfile.decode(Whole, value)


def test_half_a_surrogate_pair_becomes_its_escape() -> None:
    found = jsonfile.decode(Whole, {**PLAIN, "name": 'x\udcff\\ud800 "\U0001f680'})
    assert found.name == 'x\\udcff\\ud800 "\U0001f680'


def test_a_number_that_is_not_finite_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1e999}')
    with pytest.raises(ValueError, match="not finite"):
        jsonfile.read(tmp_path / "x.json")

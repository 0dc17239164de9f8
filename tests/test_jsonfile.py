"""JSON as frozen dataclasses: strictly, with errors that name the field."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from farm import jsonfile
from farm.errors import InputError
from farm.specs import ModelFacts, Suppression


@dataclass(frozen=True)
class Inner:
    share: float
    many: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    on: bool = False
    sizes: tuple[int, int] | None = None
    items: tuple[Inner, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    anything: Any = None


VALUES: dict[str, Any] = {
    "name": "x", "inner": {"share": 1, "many": 2}, "sizes": [3, 4], "items": [{"share": 0.5}],
    "seconds": {"a.b": 1.5}, "anything": [{"b": [1]}],
}  # fmt: skip


def test_what_was_written_is_read_again() -> None:
    found = jsonfile.decode(Outer, VALUES)
    items, inner = (Inner(0.5),), Inner(1.0, 2)
    assert found == Outer("x", inner, False, (3, 4), items, {"a.b": 1.5}, [{"b": [1]}])
    assert type(found.inner.share) is float and isinstance(found.items, tuple)
    assert jsonfile.decode(Outer, json.loads(json.dumps(asdict(found)))) == found
    suppression = Suppression(0.5, True, 100)
    facts = ModelFacts(
        ("a", "b"), False, "[]", input_shape=(None, 3, 8, 8), suppression=suppression
    )
    assert jsonfile.decode(ModelFacts, json.loads(json.dumps(asdict(facts)))) == facts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nam": 1}, "Outer has no field 'nam'"),
        ({"inner": {"share": 1, "mny": 2}}, "Outer has no field 'inner.mny'"),
        ({"inner": {"mny": 2}}, "Outer has no field 'inner.mny'"),
        ({"inner": {"many": 2}}, "'inner.share' is missing"),
        ({"items": [{"share": 1}, {}]}, "'items.1.share' is missing"),
        ({"name": 5}, "'name': expected a valid string, not 5"),
        ({"name": None}, "'name': expected a valid string, not None"),
        ({"on": 1}, "'on': expected a valid boolean, not 1"),
        ({"inner": {"share": True}}, "'inner.share': expected a valid number, not True"),
        ({"inner": {"share": "1"}}, "'inner.share': expected a valid number, not '1'"),
        ({"inner": {"share": 1, "many": True}}, "'inner.many': expected a valid integer, not True"),
        ({"inner": {"share": 1, "many": 1.0}}, "'inner.many': expected a valid integer, not 1.0"),
        ({"inner": [1]}, "'inner': expected an object, not [1]"),
        ({"sizes": [3]}, "'sizes.1' is missing"),
        ({"sizes": [3, 4, 5]}, "'sizes': Tuple should have at most 2 items"),
        ({"sizes": "34"}, "'sizes': expected a valid array, not '34'"),
        ({"seconds": {"a.b": "x"}}, "'seconds.a.b': expected a valid number, not 'x'"),
        ({"seconds": {"a": float("inf")}}, "'seconds.a': expected a finite number, not inf"),
        ({"anything": [float("nan")]}, "'anything.0': expected a finite number, not nan"),
        ({"inner": {"share": 10**309}}, "'inner.share': expected a finite number, not 1000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        jsonfile.decode(Outer, VALUES | change, "a.json")
    assert str(error.value).startswith(f"a.json: {said}")


@pytest.mark.parametrize("value", [None, 1, "text", [VALUES]], ids=str)
def test_what_is_no_mapping_is_no_dataclass(value: Any) -> None:
    with pytest.raises(InputError, match="the value: expected an object, not"):
        jsonfile.decode(Outer, value)


def test_reading_plain_json_needs_no_pydantic() -> None:
    code = "import sys, farm.jsonfile; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

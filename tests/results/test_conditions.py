"""Conditions on rows: what meets them, how they are parsed, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.errors import InputError
from farm.results.columns import COLUMNS
from farm.results.conditions import parse, shown


@pytest.mark.parametrize(
    ("written", "values", "met"),
    [
        ("engine_bytes < 50MB", {"engine_bytes": 49_999_999}, True),
        ("engine_bytes < 50MB", {"engine_bytes": 50_000_000}, False),
        ("engine_bytes <= 50mb", {"engine_bytes": 50_000_000}, True),
        ("engine_bytes>1.5GiB", {"engine_bytes": 3 << 29}, False),
        ("engine_bytes>=1.5GiB", {"engine_bytes": 3 << 29}, True),
        ("engine_bytes = 1024", {"engine_bytes": 1024}, True),
        ("latency_p50_ms < 20ms", {"latency_p50_ms": 19.9}, True),
        ("latency_p50_ms < 0.02s", {"latency_p50_ms": 20.1}, False),
        ("build_s <= 2m", {"build_s": 120.0}, True),
        ("throughput_per_s > 99 images/s", {}, True),
        ("box_ap >= 40%", {"box_ap": 0.4}, True),
        ("box_ap >= .5", {"box_ap": 0.5}, True),
        ("box_ap_drop <= 0.1%", {"box_ap_drop": 0.0011}, False),
        ("box_ap_drop > -1e-3", {"box_ap_drop": 0.0}, True),
        ("opset != 11", {"opset": 13}, True),
        ("opset == 13", {"opset": 13}, True),
        ("stable = yes", {"stable": True}, True),
        ("stable = no", {"stable": False}, True),
        ("stable = False", {"stable": True}, False),
        ("stable != true", {"stable": False}, True),
        ("runtime = openvino", {"runtime": "openvino@2025.2"}, False),
        ("runtime = openvino*", {"runtime": "openvino@2025.2"}, True),
        ("runtime != 'openvino*'", {"runtime": "openvino"}, False),
        ("runtime != openvino", {"runtime": "onnxruntime"}, True),
        ('model = "a < b"', {"model": "a < b"}, True),
        ("model = a[0]", {"model": "a[0]"}, True),
        ("model = a?0]", {"model": "a[0]"}, True),
        ("status = ok", {}, True),
        # Without a value
        ("engine_bytes < 50MB", {"engine_bytes": None}, False),
        ("engine_bytes != 50MB", {"engine_bytes": None}, True),
        ("fallback = cpu", {"fallback": None}, False),
        ("fallback != cpu", {"fallback": None}, True),
        ("box_ap = -", {"box_ap": None}, True),
        ("box_ap != -", {"box_ap": None}, False),
        ("box_ap != -", {"box_ap": 0.0}, True),
        ("box_ap = -", {"box_ap": 0.0}, False),
    ],
)
def test_a_row_meets_a_condition(written: str, values: dict[str, Any], met: bool) -> None:
    assert parse(written).met(row("x", **values)) is met


def test_a_column_that_a_row_lacks_has_no_value() -> None:
    assert not parse("build_s < 5").met({}) and parse("build_s = -").met({})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("latency_p50_ms = 2", 2), ("latency_p50_ms = 2ms", 2), ("latency_p50_ms = 2 s", 2000),
        ("build_s = 2", 2), ("build_s = 2s", 2), ("build_s = 500 ms", 0.5), ("build_s = 2m", 120),
        ("build_s = 1h", 3600), ("throughput_per_s = 3 images/s", 3),
        ("throughput_per_s = 3img/s", 3), ("max_box_diff_px = 1.5px", 1.5),
        ("max_box_diff_px = 2 pixels", 2), ("engine_bytes = 1kb", 1000),
        ("engine_bytes = 1KiB", 1024), ("box_ap = 40%", 0.4), ("box_ap = 1", 1),
        ("latency_cov = 5%", 0.05), ("opset = 13.", 13), ("model = '", "'"), ("model = ''", ""),
        ("model = 'a\"", "'a\""), ("model = -", None), ("model = '-'", "-"),
    ],
)  # fmt: skip
def test_values_are_in_the_unit_of_their_column(written: str, value: Any) -> None:
    found = parse(written).value
    assert found == (pytest.approx(value) if isinstance(value, float) else value)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "'' is no condition; expected a column, one of <, <=, >, >=, =, !=, and a value"),
        ("engine_bytes", "is no condition; .* as in 'engine_bytes < 50MB'"),
        ("engine_bytes <", "is no condition"),
        ("< 5", "is no condition"),
        ("engine_bites < 5", "no column 'engine_bites'; did you mean 'engine_bytes'"),
        ("p50 < 5", "no column 'p50'; did you mean one of: latency_p50_ms, device_p50_ms"),
        ("engine_bytes < big", r"'big': engine_bytes is a number, perhaps with a unit \(B, KB"),
        ("engine_bytes < 5ms", "'5ms': engine_bytes is a number"),
        ("engine_bytes =< 5", "'< 5': engine_bytes is a number"),
        ("latency_p50_ms < 5MB", r"latency_p50_ms is a number, perhaps with a unit \(ms, s\)"),
        ("opset < 50%", "'50%': opset is a number$"),
        ("box_ap > 40", r"'40': bbox_mAP is from 0 to 1 \(0.4 or 40%\)"),
        ("box_ap > 1.01", "bbox_mAP is from 0 to 1"),
        ("stable < false", "< compares numbers; for true or false use = or !="),
        ("box_ap > -0.1", "bbox_mAP is from 0 to 1"),
        ("latency_p50_ms < 1e999", "latency_p50_ms is finite"),
        ("latency_p50_ms < nan", "'nan': latency_p50_ms is a number"),
        ("runtime < openvino", "< compares numbers; for text use = or !="),
        ("stable > true", "> compares numbers; for true or false use = or !="),
        ("box_ap >= -", ">= compares numbers; for no value use = or !="),
        ("stable = maybe", "'maybe': stable is true or false"),
        ("status = okay", "no status 'okay'; did you mean 'ok'"),
    ],
)
def test_a_wrong_condition_is_refused_with_what_was_expected(written: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(written)


@pytest.mark.parametrize(
    ("written", "values", "reason", "gap"),
    [
        (
            "engine_bytes < 50MB", {"engine_bytes": 52_428_800},
            "has engine_bytes 52.4 MB, expected under 50.0 MB", 2_428_800,
        ),
        (
            "latency_p50_ms<=9", {}, "has latency_p50_ms 10.00 ms, at most 9.00 ms", 1.0,
        ),
        ("box_ap >= 60%", {}, "has bbox_mAP 0.5000, at least 0.6000", pytest.approx(0.1)),
        ("samples > 10", {"samples": 10}, "has samples 10, expected over 10", 0),
        ("opset = 13", {"opset": 11}, "has opset 11, expected 13", None),
        ("runtime = openvino", {}, "has runtime onnxruntime, expected openvino", None),
        (
            "runtime != onnx*", {}, "has runtime onnxruntime, expected another than onnx*", None,
        ),
        ("stable = false", {}, "has stable true, expected false", None),
        ("build_s < 5", {}, "has no build_s", None),
    ],
)  # fmt: skip
def test_why_a_row_does_not_meet_it_is_said(
    written: str, values: dict[str, Any], reason: str, gap: float | None
) -> None:
    condition, one = parse(written), row("x", **values)
    assert not condition.met(one)
    assert condition.reason(one) == reason and condition.missed_by(one) == gap


@pytest.mark.parametrize(
    ("written", "values", "said"),
    [
        ("latency_p50_ms <= 9", {}, "has latency_p50_ms 10.00 ms, 1.00 ms over"),
        ("box_ap >= .6", {}, "has bbox_mAP 0.5000, 0.1000 under"),
        ("engine_bytes > 2MB", {"engine_bytes": 5e5}, "has engine_bytes 500.0 KB, 1.5 MB under"),
        ("samples > 10", {"samples": 10}, "has samples 10, expected over 10"),
        ("opset = 13", {"opset": 11}, "has opset 11, expected 13"),
    ],
)
def test_by_how_much_a_row_misses_it_is_said(
    written: str, values: dict[str, Any], said: str
) -> None:
    assert parse(written).miss(row("x", **values)) == said


def test_values_are_shown_with_their_units() -> None:
    said = [
        ("engine_bytes", 999, "999 B"), ("engine_bytes", 1000, "1.0 KB"),
        ("engine_bytes", 2.5e9, "2.5 GB"), ("build_s", 1.234, "1.23 s"),
        ("throughput_per_s", 120.0, "120 images/s"), ("box_ap", 0.12345, "0.1235"),
        ("samples", 12, "12"), ("box_ap", None, "-"), ("device", "a\x1bb", "a\\x1bb"),
    ]  # fmt: skip
    assert [shown(COLUMNS[name], value) for name, value, _ in said] == [text for *_, text in said]


def test_a_condition_is_named_on_one_printable_line() -> None:
    assert parse("model =\n 'a\x1bb'").text == r'''--where "model = 'a\x1bb'"'''

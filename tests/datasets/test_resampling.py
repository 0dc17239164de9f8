"""The interval of a drop of AP: resampled images, both detectors over the same of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenes import Scene, kept, noisy, with_own_scores

from farm.datasets import resampling
from farm.datasets.matches import average_precision
from farm.datasets.resampling import Interval, drop_figures, drop_interval, drop_samples

KINDS = ("box", "mask")


def test_the_drop_in_a_resample_is_that_of_both_detectors_over_its_images(tmp_path: Path) -> None:
    for seed in range(6):
        scene = with_own_scores(Scene(seed))
        reference, own = kept(scene, tmp_path), kept(noisy(scene), tmp_path)
        weights = resampling.resamples(len(scene.metas))[:, :300]
        for kind in KINDS:
            drops = drop_samples(reference[kind], own[kind], weights)
            expected = average_precision(reference[kind], weights)
            expected -= average_precision(own[kind], weights)
            np.testing.assert_allclose(drops, expected, rtol=0, atol=1e-13)


def test_resamples_draw_as_many_images_with_replacement_and_are_always_the_same() -> None:
    found = resampling.resamples(40)
    assert found.shape == (40, resampling.RESAMPLES) and (found.sum(0) == 40).all()
    assert found[:6, 0].tolist() == [2, 2, 0, 2, 0, 1]
    assert found.mean(1) == pytest.approx(np.ones(40), abs=0.15)
    assert found.var() == pytest.approx(1 - 1 / 40, abs=0.05)


def test_equal_matches_have_no_drop_and_no_width(tmp_path: Path) -> None:
    scene = with_own_scores(Scene(4))
    other = copy.copy(scene)  # as an engine of the same precision: scores move, their order not
    other.found = [replace(one, scores=one.scores * np.float32(0.999)) for one in scene.found]
    reference, own = kept(scene, tmp_path), kept(other, tmp_path)
    assert not np.array_equal(reference["box"].score, own["box"].score)
    assert drop_interval(reference["box"], own["box"]) == Interval(0.0, 0.0)


def test_the_interval_has_the_drop_within_it_and_the_record_says_how_it_was_made(
    tmp_path: Path,
) -> None:
    scene = with_own_scores(Scene(7))
    other = noisy(scene)
    figures = drop_figures(kept(scene, tmp_path), kept(other, tmp_path))
    names = {f"{kind}_ap_drop_{end}" for kind in KINDS for end in ("low", "high")}
    how = {"ap_drop_confidence": 0.95, "ap_drop_resamples": 1000, "ap_drop_seed": 0}
    assert figures.keys() == names | how.keys() and how.items() <= figures.items()
    for kind in KINDS:
        ap, lost = (one.figures(tmp_path, True)[f"{kind}_ap"] for one in (scene, other))
        low, high = (figures[f"{kind}_ap_drop_{end}"] for end in ("low", "high"))
        assert low < ap - lost < high and high - low > 0.01


def test_without_objects_there_is_no_interval(tmp_path: Path) -> None:
    scene = Scene(2)
    scene.document["annotations"] = []
    found = kept(scene, tmp_path)
    assert drop_interval(found["box"], found["box"]) is None
    assert drop_figures(found, found)["box_ap_drop_high"] is None

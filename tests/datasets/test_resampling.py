"""The interval of a drop of AP: resampled images, both detectors over the same of them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import Scene, kept, noisy, with_own_scores

from farm.datasets import resampling
from farm.datasets.matches import Matches, average_precision
from farm.datasets.resampling import (
    Interval,
    degrees_of_freedom,
    drop_figures,
    drop_interval,
    drop_samples,
    quantile,
)

KINDS = ("box", "mask")


def test_the_drop_in_a_resample_is_that_of_both_detectors_over_its_images(tmp_path: Path) -> None:
    for seed in range(6):
        scene = with_own_scores(Scene(seed))
        reference, own = kept(scene, tmp_path), kept(noisy(scene), tmp_path)
        weights = resampling.resamples(len(scene.metas))
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
    how = {"ap_drop_confidence": 0.95, "ap_drop_resamples": 400, "ap_drop_seed": 0}
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


def finder(found: Any) -> Matches:
    """A detector that finds the one object of each image, or nothing. AP: how many it finds."""
    images = np.arange(len(found), dtype=np.int32)
    true = np.where(found, 1023, 0).astype(np.uint16)[found]
    nothing, zeros = np.zeros(len(true), np.uint16), np.zeros(len(found), np.int32)
    scores = np.full(len(true), 0.5, np.float32)
    return Matches(
        len(found), images[found], zeros[found], scores, true, nothing, images, zeros
    )  # fmt: skip


def test_intervals_have_the_true_drop_in_them_as_often_as_they_say() -> None:
    random, images, trials, missed = np.random.default_rng(1), 60, 100, 0.15
    reference, held, widths = finder(np.ones(images, bool)), 0, []
    for _ in range(trials):
        one = drop_interval(reference, finder(random.random(images) >= missed))
        assert one is not None
        # COCO's 101 recalls: half of one is what AP is over the part that is found.
        held += one.low - 0.005 <= missed <= one.high + 0.005
        widths.append(one.high - one.low)
    assert 0.93 <= held / trials <= 0.98
    assert np.mean(widths) == pytest.approx(4 * (missed * (1 - missed) / images) ** 0.5, rel=0.1)


def test_a_drop_that_one_image_makes_is_known_from_little() -> None:
    found = np.ones(60, bool)
    found[7] = False
    one = drop_interval(finder(np.ones(60, bool)), finder(found))
    assert one is not None
    # An error of a sixtieth, times the quantile for two degrees of freedom.
    assert one.high - one.low == pytest.approx(2 * 4.3 / 60, rel=0.2)
    assert (one.low + one.high) / 2 == pytest.approx(1 / 60, abs=0.007)


def test_one_image_with_objects_tells_no_interval_but_for_equal_detectors() -> None:
    both, none = finder(np.array([True])), finder(np.array([False]))
    assert drop_interval(both, none) is None
    assert drop_interval(both, both) == Interval(0.0, 0.0)


def test_degrees_of_freedom_are_as_many_as_there_are_images_that_matter() -> None:
    def of(influential: int, images: int = 100) -> float:
        return degrees_of_freedom(np.float64([0.1] * influential + [0.2] * (images - influential)))

    assert of(1) == pytest.approx(2, abs=0.1) and of(2) == pytest.approx(4, abs=0.3)
    assert of(5, images=1000) == pytest.approx(10, abs=0.2) and degrees_of_freedom(np.ones(9)) == 1
    normal = np.random.default_rng(0).normal(size=2000)
    assert degrees_of_freedom(normal) == pytest.approx(1999, rel=0.1)
    assert degrees_of_freedom(np.float64([0.1, 0.2])) == 1


def test_quantiles_are_those_of_students_distribution() -> None:
    special = pytest.importorskip("scipy.special")
    for degrees in (1, 2, 2.4, 3, 3.7, 4, 5.5, 7, 9, 12, 20, 45, 100, 200, 5000):
        assert quantile(degrees) == pytest.approx(special.stdtrit(degrees, 0.975), rel=0.004)


def test_many_images_are_left_out_by_groups_each_image_once() -> None:
    weights = resampling.leaving_out(450, 200)
    assert weights.shape == (450, 200) and set(weights.ravel()) == {0, 1}
    assert ((1 - weights).sum(1) == 1).all() and set((1 - weights).sum(0)) == {2, 3}

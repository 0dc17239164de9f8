"""Run prepared images through a session and read its outputs as detections: the one loop for that.

Whoever runs an engine for its boxes does it here: `verify`, `evaluate`, int8's `auto`, the
single-model tools and the table of models.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from farm.detections import Detections, Floats, ImageMeta
from farm.detections.convert import from_outputs, network_meta, require_known_labels, to_original
from farm.detections.suppress import suppress
from farm.errors import WrongOutputs

if TYPE_CHECKING:
    from farm.datasets.prepared import Prepared
    from farm.specs import ModelFacts, Suppression

Outputs = Mapping[str, npt.NDArray[Any]]

Batch = tuple[Floats, Sequence[ImageMeta]]
"""Images float32 [N, 3, H, W], and the metas of the first of them: what a fixed batch is filled up
with has none."""

_CANDIDATES = {"boxes", "scores", "labels"}


class Runs(Protocol):
    """What the loop needs of a session."""

    def run(self, images: Floats) -> Outputs:
        """Return the outputs for images float32 [N, 3, H, W], by name."""


@dataclass(frozen=True)
class Decoding:
    """How outputs become detections.

    classes: how many the model has; None where labels are not checked. clip: whether boxes are
    cut to the image. mask_threshold, mask_frame: see `ModelFacts`. suppression: what is done to
    the outputs of an engine that ends before it.
    """

    classes: int | None = None
    clip: bool = False
    mask_threshold: float = 0.5
    mask_frame: str = "box"
    suppression: Suppression | None = None


def decoding_of(facts: ModelFacts, clip: bool = False) -> Decoding:
    """Return the decoding that a model's facts define."""
    return Decoding(
        len(facts.classes), clip, facts.mask_threshold, facts.mask_frame, facts.suppression
    )


def detect(session: Runs, batches: Iterable[Batch], decoding: Decoding) -> Iterator[Detections]:
    """Yield the detections of each image, in the frame that its meta leads back to.

    A batch runs when its first image is requested.

    Raises:
        WrongOutputs: as `decoded`.
    """
    for images, metas in batches:
        yield from decoded(completed(session.run(images), decoding), metas, decoding)


def detect_all(
    session: Runs, batches: Iterable[Batch], decoding: Decoding, cores: int
) -> list[Detections]:
    """Return the detections of all images, as `detect` yields them.

    cores: how many the session uses. Where this process may use more, a second thread loads the
    next batch and suppresses and decodes the last one while a batch runs, so that the session
    hardly waits: that is one core more than the session's, for as long as this work takes.

    Raises:
        WrongOutputs: as `decoded`.
    """
    if usable_cores() <= cores:
        return list(detect(session, batches, decoding))
    found: list[Detections] = []
    with ThreadPoolExecutor(1, "decoding") as other:
        pending = iter(batches)

        def turn(outputs: Outputs | None, metas: Sequence[ImageMeta]) -> Batch | None:
            if outputs is not None:
                found.extend(decoded(completed(outputs, decoding), metas, decoding))
            return next(pending, None)

        batch = next(pending, None)
        beside = other.submit(turn, None, ())
        while batch is not None:
            outputs = session.run(batch[0])
            following = beside.result()
            beside = other.submit(turn, outputs, batch[1])
            batch = following
        beside.result()
    return found


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def completed(outputs: Outputs, decoding: Decoding) -> Outputs:
    """Suppress the boxes of an engine that ends before the suppression; else change nothing."""
    if decoding.suppression is not None and set(outputs) == _CANDIDATES:
        return suppress(outputs, decoding.suppression)
    return outputs


def decoded(
    outputs: Outputs, metas: Sequence[ImageMeta], decoding: Decoding
) -> Iterator[Detections]:
    """Yield the detections of one batch.

    Raises:
        WrongOutputs: the outputs have not the form of detections.
        LabelOutOfRange: a box has a label that is none of the model's classes.
    """
    _require_form(outputs)
    for found, meta in zip(from_outputs(outputs), metas, strict=False):
        if decoding.classes is not None:
            require_known_labels(found, decoding.classes, meta.file_name)
        yield to_original(found, meta, decoding.clip, decoding.mask_threshold, decoding.mask_frame)


def _require_form(outputs: Outputs) -> None:
    dets, labels = outputs.get("dets"), outputs.get("labels")
    if dets is None or labels is None or dets.shape[2:] != (5,) or labels.shape != dets.shape[:2]:
        shapes = ", ".join(f"{name} {[*value.shape]}" for name, value in outputs.items())
        raise WrongOutputs(f"it gives {shapes}; expected dets [N, K, 5] and labels [N, K]")


def prepared_batches(prepared: Prepared, size: int) -> Iterator[Batch]:
    """Yield all prepared images; their detections are those of the original images."""
    for indices, images in prepared.batches(size):
        yield images, [prepared.metas[i] for i in indices]


def in_network_frame(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the same images, whose detections stay in the pixels of the network's input."""
    for images, metas in batches:
        yield images, [network_meta(meta.file_name, *images.shape[2:]) for meta in metas]


def network_batch(images: Floats) -> Batch:
    """Images made for this batch alone, numbered from 1."""
    height, width = images.shape[2:]
    return images, [network_meta(f"image {i}", height, width) for i in range(1, len(images) + 1)]

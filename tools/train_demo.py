"""Train the detectors of matrices/demo on synthetic images, on the CPU, and measure them.

    python tools/train_demo.py [--model onestage|twostage|all] [--iterations N] [--out DIR]
    python tools/train_demo.py --model resnet50 --out DIR

The second one's config is in benchmarks/: half an hour on 2 cores, for benchmarks/precision.py.
Writes OUT/<model>.pth and prints the average precision on images of another seed: those that
`{type: synthetic, count: 64, seed: 7, size: 160}` draws, prepared by the config's own test
pipeline.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import farm.sources.mmdet.compat  # noqa: E402, F401  mmcv needs it before its first import

# isort: split
import mmcv  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from mmdet.core import BitmapMasks, encode_mask_results  # noqa: E402
from mmdet.datasets import build_dataset  # noqa: E402
from mmdet.models import build_detector  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

from farm.datasets.synthetic import CLASSES, Scene, draw, draw_scene  # noqa: E402

DEMO = ROOT / "matrices" / "demo"
CONFIGS = {
    "onestage": DEMO / "onestage.py",
    "twostage": DEMO / "twostage.py",
    "resnet50": ROOT / "benchmarks" / "resnet50.py",
}
SIZE = 160
TRAIN_SEED, TRAIN_COUNT = 1, 2000
TEST_SEED, TEST_COUNT = 7, 64
BATCH = 8
# Iterations, and the highest learning rate of the one-cycle schedule.
RECIPES = {"onestage": (2500, 2e-3), "twostage": (1000, 2e-3), "resnet50": (600, 5e-4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*RECIPES, "all"], default="all")
    parser.add_argument("--iterations", type=int, help="how long to train, in batches")
    parser.add_argument("--out", type=Path, default=DEMO, help="where the weights go")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.INFO)  # mmcv would list every initialised layer
    args.out.mkdir(parents=True, exist_ok=True)
    scenes = [draw_scene(TRAIN_SEED, number, SIZE) for number in range(1, TRAIN_COUNT + 1)]
    for name in ("onestage", "twostage") if args.model == "all" else [args.model]:
        config = mmcv.Config.fromfile(str(CONFIGS[name]))
        iterations, rate = RECIPES[name]
        model = train(config, scenes, args.iterations or iterations, rate)
        save(model, args.out / f"{name}.pth")
        print(f"{name}: {evaluate(config, model)}", flush=True)


def train(config: mmcv.Config, scenes: list[Scene], iterations: int, rate: float) -> Any:
    """The config's model after `iterations` batches, in evaluation mode."""
    torch.manual_seed(0)
    np.random.seed(0)  # mmdet's samplers and mmcv's initialisers draw from here
    model = build_detector(config.model)
    model.init_weights()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, iterations, pct_start=0.1)
    began = time.monotonic()
    for done, batch in zip(range(1, iterations + 1), batches(config, scenes), strict=False):
        loss, parts = model._parse_losses(model.forward_train(**batch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        if done % 100 == 0 or done == iterations:
            text = "  ".join(f"{key} {value:.3f}" for key, value in parts.items())
            print(f"{done}/{iterations}  {time.monotonic() - began:.0f} s  {text}", flush=True)
    return model.eval()


def batches(config: mmcv.Config, scenes: list[Scene]) -> Iterator[dict[str, Any]]:
    """Without end, the arguments of mmdet's `forward_train` for BATCH random scenes."""
    rng = np.random.default_rng(0)
    masked = "roi_head" in config.model
    while True:
        order = rng.permutation(len(scenes))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = [turned(scenes[i], rng) for i in order[start : start + BATCH]]
            yield batch_of(chosen, config.img_norm_cfg, masked)


def turned(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene turned by a multiple of 90 degrees and flipped or not, at random."""
    turns, flip = int(rng.integers(4)), int(rng.choice([-1, 1]))
    image = np.rot90(scene.image, turns)[:, ::flip]
    return Scene(image, scene.labels, np.rot90(scene.masks, turns, axes=(1, 2))[:, :, ::flip])


def batch_of(scenes: list[Scene], norm: dict[str, Any], masked: bool) -> dict[str, Any]:
    images = [
        mmcv.imnormalize(s.image, np.array(norm["mean"]), np.array(norm["std"]), norm["to_rgb"])
        for s in scenes
    ]
    shape = (SIZE, SIZE, 3)
    meta = {"img_shape": shape, "pad_shape": shape, "ori_shape": shape, "scale_factor": np.ones(4)}
    batch = {
        # Contiguous, for mmcv's RoIAlign reads channels-last memory as if it were not.
        "img": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous(),
        "img_metas": [{**meta, "flip": False} for _ in scenes],
        "gt_bboxes": [torch.from_numpy(boxes_of(scene.masks)) for scene in scenes],
        "gt_labels": [torch.from_numpy(scene.labels) for scene in scenes],
    }
    if masked:
        batch["gt_masks"] = [BitmapMasks(s.masks.astype(np.uint8), SIZE, SIZE) for s in scenes]
    return batch


def boxes_of(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The boxes around the masks: bool [N, H, W] to float32 [N, 4], x1 y1 x2 y2."""
    sides = []
    for axis in (1, 2):  # over rows: columns, then over columns: rows
        hit = np.asarray(masks.any(axis=axis))
        sides.append((hit.argmax(axis=1), hit.shape[1] - hit[:, ::-1].argmax(axis=1)))
    (x1, x2), (y1, y2) = sides
    return np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)


def save(model: torch.nn.Module, path: Path) -> None:
    """Write the weights in mmdet's layout, loadable with `torch.load(weights_only=True)`."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save({"meta": {"CLASSES": CLASSES}, "state_dict": state}, path)
    torch.load(path, weights_only=True)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


def evaluate(config: mmcv.Config, model: Any) -> str:
    """Box AP and, where the model has masks, mask AP, by pycocotools on the held-out images."""
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), TEST_COUNT, TEST_SEED, SIZE)
        dataset = build_dataset({**config.data.test, "data_root": folder, "test_mode": True})
        masked = "roi_head" in config.model
        results: list[Any] = []
        spent = 0.0
        for item in dataset:
            images = [image[None] for image in item["img"]]
            metas = [[meta.data] for meta in item["img_metas"]]
            began = time.perf_counter()
            with torch.no_grad():
                found = model.simple_test(images[0], metas[0], rescale=True)
            spent += time.perf_counter() - began
            results += [(b, encode_mask_results(m)) for b, m in found] if masked else found
        scores = [
            f"{kind} AP {ap:.3f}, AP50 {ap50:.3f}, small {small:.3f}, medium {medium:.3f}"
            for kind, ap, ap50, small, medium in precision(dataset, results)
        ]
    return "; ".join([*scores, f"{1e3 * spent / len(results):.1f} ms an image"])


def precision(dataset: Any, results: list[Any]) -> Iterator[tuple[Any, ...]]:
    masked = isinstance(results[0], tuple)
    found = dataset._segm2json(results) if masked else (dataset._det2json(results), None)
    for kind, rows in zip(("bbox", "segm"), found, strict=True):
        if rows == []:
            yield kind, 0.0, 0.0, 0.0, 0.0
        elif rows is not None:
            score = COCOeval(dataset.coco, dataset.coco.loadRes(rows), kind)
            score.evaluate()
            score.accumulate()
            score.summarize()
            yield kind, *score.stats[[0, 1, 3, 4]]


if __name__ == "__main__":
    main()

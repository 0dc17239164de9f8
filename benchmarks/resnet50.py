"""RetinaNet with a whole ResNet-50, for what int8 loses and gives on a detector that was trained.

tools/train_demo.py trains it on the demo's synthetic images; it differs from the demo's detector in
its backbone, neck and widths alone.
"""

# ruff: noqa: C408  (mmdet writes its configs so)

_base_ = "../matrices/demo/onestage.py"

model = dict(
    backbone=dict(
        depth=50,
        base_channels=64,
        num_stages=4,
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
    bbox_head=dict(
        in_channels=256, feat_channels=256, anchor_generator=dict(strides=[8, 16, 32, 64, 128])
    ),
)

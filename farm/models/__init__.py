"""The table of models: each of mmdet's families is exported, run and compared with PyTorch.

`families.yaml` names them, `trial` runs one model's trials, `records` keeps their results, `table`
shows them, and `command` is `farm models`. `exporters.json` lists exporters that differ in names
alone, so that their records stay valid.
"""

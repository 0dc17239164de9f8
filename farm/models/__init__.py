"""The table of models: each of mmdet's families exported, run and held against PyTorch.

`families.yaml` names them, `trial` does one model's checks, `records` keeps what was found,
`table` shows it, `command` is `farm models`.
"""

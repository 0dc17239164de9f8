"""Sweeps on a Ray cluster of several nodes while faults are injected, chosen by a seed.

    python -m chaos --seed 1 --faults 200       (`make chaos`)

`scenario` draws the faults and plays them, `faults` is their table, `checks` is what must hold
afterwards.
"""

"""Acceptance: a sweep's remaining steps on a machine with a GPU and no network, from a pack."""

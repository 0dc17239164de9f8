"""Run a sweep's remaining steps on a machine without network, and bring its records home."""

"""Run a sweep's remaining steps on a machine without network, and import its records."""

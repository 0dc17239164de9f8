"""The matrix file: read, checked, expanded into cells; every error at its line."""

"""Worker processes: how a step runs in one, its limits, and how it ended."""

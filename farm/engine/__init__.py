"""The engine: schedules a plan's steps, and runs each on a node that fits it."""

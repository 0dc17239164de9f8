"""Pick the engine to ship: what is asked for, which cells have it, and which of them is best."""

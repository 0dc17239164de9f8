"""farm: one matrix in, a leaderboard and a picked engine out."""

__version__ = "0.3.0.dev0"

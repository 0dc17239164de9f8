"""Rows of the leaderboard as people read them: tables, csv, json, markdown."""

"""Measuring: samples of latency, and the state of the machine while they were taken."""

"""Measuring: samples of latency, throughput, the mode `server`, the state of the machine."""

"""Measuring: samples of latency, throughput, and the state of the machine meanwhile."""

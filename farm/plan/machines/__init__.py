"""Machines that steps may run on: processors, GPUs, and what runs where."""

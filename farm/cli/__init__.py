"""The commands of `farm`."""

"""`farm init`: a first matrix from a config, a checkpoint and a data set, for this machine."""

"""Files of other projects: their features, heads and checkpoints, read without running code."""

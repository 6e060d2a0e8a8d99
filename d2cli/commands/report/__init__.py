"""``d2prune report``."""

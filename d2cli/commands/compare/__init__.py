"""``d2prune compare``."""

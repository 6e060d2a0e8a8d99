"""``d2prune select``."""

"""``d2prune graph``."""

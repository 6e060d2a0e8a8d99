"""``d2prune score``."""

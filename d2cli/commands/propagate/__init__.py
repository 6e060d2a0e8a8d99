"""``d2prune propagate``."""

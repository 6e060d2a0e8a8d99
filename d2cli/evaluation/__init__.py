"""Measures of a selection that need no training, on arrays."""

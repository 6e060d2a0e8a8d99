"""Measures of a selection on arrays, without training."""

"""Measures of a coreset that need no training: arrays in, numbers out."""

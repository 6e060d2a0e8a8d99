"""File formats: each file as named fields."""

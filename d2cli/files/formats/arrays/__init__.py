"""Arrays in other containers than NumPy's own."""

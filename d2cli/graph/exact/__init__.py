"""Exact search in blocks."""

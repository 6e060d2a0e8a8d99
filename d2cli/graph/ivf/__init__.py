"""Approximate search in cells."""

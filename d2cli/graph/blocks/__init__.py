"""Approximate search by int8 codes in small blocks."""

"""Approximate search in cells (an inverted file), refined along links between neighbours."""

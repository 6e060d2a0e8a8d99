"""Edges, forward messages and the utility of scores."""

"""Edges, forward messages, missing scores and the utility of scores."""

"""Greedy selection with reverse messages."""

"""Tests of greedy selection."""

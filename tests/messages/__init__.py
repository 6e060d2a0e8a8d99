"""Tests of edges and the forward pass."""

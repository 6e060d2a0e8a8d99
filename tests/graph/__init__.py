"""Tests of the kNN graph."""

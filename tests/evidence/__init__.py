"""Tests of the evidence, without training."""

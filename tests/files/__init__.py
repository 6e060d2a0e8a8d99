"""Tests of inputs, outputs and provenance."""

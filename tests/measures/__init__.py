"""Tests of difficulty scores, evaluation and baselines."""

"""What each command does: settle, open, compute, finish."""

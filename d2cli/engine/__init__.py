"""How independent tasks are run."""

"""How independent tasks are run and their state is saved; knows no algorithm."""

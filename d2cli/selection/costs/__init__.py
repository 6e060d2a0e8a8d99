"""Budgets in cost: limits of what picks may cost, in all and for each class."""

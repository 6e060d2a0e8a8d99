"""How γ_r is chosen: the search on a grid of values, and the rules that accept a value."""

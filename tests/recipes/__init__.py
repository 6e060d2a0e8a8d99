"""Each page of docs/recipes is followed on small data of the same layout."""

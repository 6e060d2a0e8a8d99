"""Where an output came from."""

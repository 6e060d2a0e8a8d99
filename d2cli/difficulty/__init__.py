"""Difficulty scores from arrays: of training dynamics, of embeddings and of neighbours."""

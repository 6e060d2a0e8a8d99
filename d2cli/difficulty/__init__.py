"""Scores of difficulty, from arrays: of training, of embeddings, of neighbours."""

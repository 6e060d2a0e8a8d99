"""Embeddings in, nearest-neighbour lists out."""

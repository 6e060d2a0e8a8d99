"""Embeddings in, nearest-neighbour lists out."""

from d2cli.neighbors.build import build_graph

__all__ = ["build_graph"]

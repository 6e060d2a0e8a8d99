"""Outputs that are folders of parts: graphs and selections."""

"""Provenance: how an output was made, and from which inputs."""

"""The version, read by the build and recorded in provenance."""

__version__ = "0.1.0"

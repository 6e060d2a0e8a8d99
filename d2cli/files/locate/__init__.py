"""From the arguments of an option to files on disk."""

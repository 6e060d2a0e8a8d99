"""The command line: parses, forwards, and alone talks to the terminal."""

"""What is on disk: sources in, outputs out. Knows nothing of graphs' meaning or of messages."""

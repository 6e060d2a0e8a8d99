"""Writing outputs: atomically, through temporary files; checkpoints of long builds."""

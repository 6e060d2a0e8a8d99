"""What the blocks search computes, on arrays."""

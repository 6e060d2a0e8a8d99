"""Compilation, memory, stopping: what kernels need and no algorithm."""

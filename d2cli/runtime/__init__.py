"""Compilation, memory and stopping: what kernels need, without any algorithm."""

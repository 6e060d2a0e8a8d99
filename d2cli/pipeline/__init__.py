"""The only place that joins files and arrays: one module a step, each ``run_…(request)``."""

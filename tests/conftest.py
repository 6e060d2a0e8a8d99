"""Fixtures that several test files share."""

from hypothesis import HealthCheck, settings

# Kernels compile within the first example of a test, which no deadline should count.
settings.register_profile("d2prune", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("d2prune")

"""Three regions as processes, faults drawn from a seed, and what clients saw, checked: ``python -m tests.regions.chaos``."""

"""A deterministic simulation of regions: virtual clock and network, a seed, invariants and mutants."""

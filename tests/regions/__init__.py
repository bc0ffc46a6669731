"""Several regions: their machines in a simulation."""

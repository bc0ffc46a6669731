"""Real stores, Ray and a small model server on one machine, started and ended by process id."""

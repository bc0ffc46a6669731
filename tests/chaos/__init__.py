"""Faults against a whole system under load, and a checker that reads what its clients saw."""

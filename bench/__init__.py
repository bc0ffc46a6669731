"""Measures the control plane beside its peers, on the same stores and in the same run: ``make bench``."""

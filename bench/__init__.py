"""Measures the control plane and its peers on the same stores and in the same run: ``make bench``."""

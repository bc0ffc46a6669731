"""Quotas: how much of the system a workspace may use at once."""

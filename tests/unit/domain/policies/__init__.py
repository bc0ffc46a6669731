"""Policies: what they say of submits, versions, contradictions, violations."""

"""Regions: who is primary, and by which epoch its writes are fenced."""

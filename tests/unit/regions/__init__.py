"""Rooms of regions/."""

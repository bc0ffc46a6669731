"""The pure machines."""

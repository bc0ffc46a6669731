"""Agents: what is known of one, whether it lives, whether it may be called, and which is chosen."""

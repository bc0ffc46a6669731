"""Plots that commands draw."""

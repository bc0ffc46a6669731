"""Schedules: when a run is due, the machine that decides what becomes of it, and the template that it is made from."""

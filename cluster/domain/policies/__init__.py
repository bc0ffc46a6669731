"""Policies: what a workspace's administrators allow of tasks and of the agents that have them, and what was against it."""

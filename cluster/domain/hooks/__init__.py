"""Hooks: signed webhooks of others that start a task or a run of a workflow."""

"""The scheduler's shard, and its client for processes inside the cluster."""

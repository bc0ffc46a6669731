"""The scheduler's shard, and the clients that talk to it from inside the cluster."""

"""Redis adapters: heartbeats and the doorbell. Losing all of Redis costs latency, never a fact."""

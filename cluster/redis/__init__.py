"""Redis adapters: signs of life and the doorbell. Losing all of it costs latency, never a fact."""

"""What runs outside the control plane and talks to it: the HTTP client, the worker kit, batches."""

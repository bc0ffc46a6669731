"""The door: FastAPI on Ray Serve."""

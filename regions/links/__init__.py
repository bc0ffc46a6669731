"""The real link between two regions: frames over mutually authenticated TLS."""

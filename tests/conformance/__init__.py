"""One suite per port that has more than one adapter."""

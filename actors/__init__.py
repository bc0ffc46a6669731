"""The actors, as plain classes that Ray runs: each is a cache over Postgres and can be killed at any moment."""

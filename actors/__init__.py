"""Plain classes that Ray turns into actors. Each is a cache over Postgres and can be killed at any moment."""

"""Plain classes that Ray turns into actors: each a cache over Postgres that can be killed at any moment."""

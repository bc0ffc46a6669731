"""Postgres adapters of the ports: the truth. SQL lives in ``.sql`` files, decisions do not live here at all."""

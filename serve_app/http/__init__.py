"""What HTTP routes share: errors, middleware, pages, idempotency keys, and the fast path."""

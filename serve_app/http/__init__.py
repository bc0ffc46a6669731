"""What every HTTP route goes through: errors, middleware, pages, repeats, and the fast path."""

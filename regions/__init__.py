"""Several regions: which one is primary, and the epoch that fences its writes. Nothing is here yet."""

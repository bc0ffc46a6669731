"""Several regions: which one is primary of a zone, and the epoch that fences its writes."""

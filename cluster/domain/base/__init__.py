"""What every room of the core builds on: errors, ids, JSON and its schema, canonical bytes, log rows."""

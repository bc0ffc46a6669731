"""Access: the names of permissions, and what a principal may do."""

"""Calling out over HTTP: sockets whose addresses are checked, bounded pools of connections, and bounded answers."""

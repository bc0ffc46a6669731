"""Everything below the actors: the pure core, ports and adapters, settings, the client and the command line."""

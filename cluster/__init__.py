"""The control plane below its actors: the pure core, ports and adapters, settings, the client and the command line."""

"""The pure core: state machines and rules as values. No clock, no I/O, no Ray, no asyncio."""

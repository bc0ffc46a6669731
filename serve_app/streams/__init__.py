"""Server-sent events and WebSocket frames."""

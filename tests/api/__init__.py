"""The API over HTTP, with real actors and stores, without Ray."""

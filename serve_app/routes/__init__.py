"""One module per noun of the API. Every router is mounted under both prefixes of the wire."""

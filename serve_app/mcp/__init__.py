"""The MCP server: the API as tools and resources for language models, at /mcp. Nothing of the package ``mcp`` is loaded unless
ARAGORA_MCP_ENABLED is set."""

"""The A2A server: tasks and deliberations for agents of others, at /a2a. Nothing of the package ``a2a`` is loaded for it unless
ARAGORA_A2A_ENABLED is set."""

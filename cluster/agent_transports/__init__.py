"""How agents are called: one adapter of ``cluster.ports.agent_transport`` for each protocol."""

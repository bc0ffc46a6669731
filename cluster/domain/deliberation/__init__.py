"""The deliberation protocol: contract, state machine, prompts and the wire's view of a result."""

"""How an agent is talked to, over one bounded, address-checked HTTP pool."""

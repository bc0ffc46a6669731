"""Agents: their description and status, liveness, breakers and rates; which agent is chosen, and which host owns it."""

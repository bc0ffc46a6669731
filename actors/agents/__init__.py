"""Agent hosts: who owns which agent, and how agents are called and given work."""

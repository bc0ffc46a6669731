"""The name that agents in the cluster import: ``from cluster.in_cluster import Answer, Question`` (docs/agent-contract.md).

Code of users says it, so it stays where it is, wherever the contract itself lives.
"""

from cluster.agent_transports.python_agent import Answer, InClusterAgent, Question, TaskWorker

__all__ = ["Answer", "InClusterAgent", "Question", "TaskWorker"]

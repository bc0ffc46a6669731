"""The contract of in-cluster agents under the name that users import: ``from cluster.in_cluster import Answer, Question``.

Users' code contains this name (docs/agent-contract.md), so it stays, wherever the contract itself lives.
"""

from cluster.agent_transports.python_agent import Answer, InClusterAgent, Question, TaskWorker, WorkTask

__all__ = ["Answer", "InClusterAgent", "Question", "TaskWorker", "WorkTask"]

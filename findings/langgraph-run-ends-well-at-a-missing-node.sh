#!/usr/bin/env bash
# Subject: langgraph 1.2.24 (PyPI), the node that comes next: a router of add_conditional_edges, Command(goto=...), Send.
# A good guess: a name that no node of the graph has is an error, at compile() or at the latest when the router returns it:
# add_edge to such a node is refused by compile(), and a router that returns None raises.
# Behaviour seen: invoke() returns as after a run that has come to END. The rest of the graph is not run, and the checkpoint has
# no next node, so nothing is left to resume. All three ways behave so; a warning in the log is the only trace. A router with a
# path_map raises KeyError for such a name.
# Output seen:
#   add_edge: ValueError at compile
#   router: {'done': ['first']}, next: ()
#   Command: {'done': ['first']}, next: ()
#   Send: {'done': ['first']}, next: ()
#   router with a path_map: KeyError
#   router that returns None: ValueError
#   router with the right name: {'done': ['first', 'second']}, next: ()
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check langgraph==1.2.24
cat > "$dir/run.py" <<'PY'
import logging
import operator
from typing import Annotated, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

logging.disable()


class State(TypedDict):
    done: Annotated[list[str], operator.add]


def first(state: State) -> dict:
    return {"done": ["first"]}


def second(state: State) -> dict:
    return {"done": ["second"]}


def first_then(state: State) -> Command:
    return Command(update=first(state), goto="secnod")


def graph(node) -> StateGraph:
    graph = StateGraph(State)
    graph.add_node("first", node)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("second", END)
    return graph


def ran(name: str, node=first, router=None, path_map=None) -> str:
    built = graph(node)
    if router is not None:
        built.add_conditional_edges("first", router, path_map)
    compiled = built.compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    try:
        result = compiled.invoke({"done": []}, thread)
    except Exception as error:
        return f"{name}: {type(error).__name__}"
    return f"{name}: {result}, next: {compiled.get_state(thread).next}"


def edge() -> str:
    built = graph(first)
    built.add_edge("first", "secnod")
    try:
        built.compile()
    except ValueError as error:
        return f"add_edge: {type(error).__name__} at compile"
    return "add_edge: compiled"


got = [
    edge(),
    ran("router", router=lambda state: "secnod"),
    ran("Command", first_then),
    ran("Send", router=lambda state: [Send("secnod", state)]),
    ran("router with a path_map", router=lambda state: "secnod", path_map=["second"]),
    ran("router that returns None", router=lambda state: None),
    ran("router with the right name", router=lambda state: "second"),
]
print("\n".join(got))
assert got == [
    "add_edge: ValueError at compile",
    "router: {'done': ['first']}, next: ()",
    "Command: {'done': ['first']}, next: ()",
    "Send: {'done': ['first']}, next: ()",
    "router with a path_map: KeyError",
    "router that returns None: ValueError",
    "router with the right name: {'done': ['first', 'second']}, next: ()",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"

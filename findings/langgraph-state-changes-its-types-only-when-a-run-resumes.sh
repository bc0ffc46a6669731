#!/usr/bin/env bash
# Subject: langgraph 1.2.24 with langgraph-checkpoint 4.3.2 (PyPI), the state that a node gets: in the run that wrote it, and after
# the run was interrupted and resumed from its checkpoint.
# A good guess: a node sees the same values whether or not the run was interrupted before it, since the state that it gets is that
# of the checkpoint; or all but plain JSON is refused when it is written. Sets, named tuples, dates, Decimals and dicts with keys
# that are tuples do come back as they were.
# Behaviour seen: a tuple comes back as a list, a defaultdict, a Counter and an OrderedDict as a dict, and nothing is said when they
# are written. The nodes of an uninterrupted run get the objects themselves. So a graph that looks up a tuple, or counts in a
# Counter, passes all its tests and fails in the first run that waits for a person, or whose process was restarted.
# Output seen:
#   in one run: tuple, Counter, set
#   resumed: list, dict, set
#   in one run: found at (1, 2); resumed: TypeError
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check langgraph==1.2.24 langgraph-checkpoint==4.3.2
cat > "$dir/run.py" <<'PY'
import collections
import logging
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

logging.disable()


class State(TypedDict, total=False):
    at: Any
    words: Any
    tags: Any
    seen: str
    found: str


def first(_: State) -> State:
    return {"at": (1, 2), "words": collections.Counter("aab"), "tags": {"x"}}


def second(state: State) -> State:
    seen = ", ".join(type(state[key]).__name__ for key in ("at", "words", "tags"))
    try:
        found = {(1, 2): "found at (1, 2)"}[state["at"]]
    except TypeError as error:
        found = type(error).__name__
    return {"seen": seen, "found": found}


def run(interrupted: bool) -> State:
    graph = StateGraph(State)
    graph.add_node("first", first)
    graph.add_node("second", second)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    app = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["second"] if interrupted else None)
    config = {"configurable": {"thread_id": "t"}}
    ended = app.invoke({}, config)
    return app.invoke(None, config) if interrupted else ended


plain, resumed = run(False), run(True)
got = [
    f"in one run: {plain['seen']}",
    f"resumed: {resumed['seen']}",
    f"in one run: {plain['found']}; resumed: {resumed['found']}",
]
print("\n".join(got))
assert got == [
    "in one run: tuple, Counter, set",
    "resumed: list, dict, set",
    "in one run: found at (1, 2); resumed: TypeError",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"

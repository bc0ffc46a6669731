"""A checked submit as stored JSON, from which tasks are made later: by schedules and by runs of workflows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from cluster.domain.base.log import Origin
from cluster.domain.tasks.questions import Question
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import NewTask, Priority

#: What each task has of its own.
_OF_THE_RUN: Final = ("id", "origin", "created_at", "run_at", "replay_of")


def task_template(task: NewTask) -> dict[str, Any]:
    """A checked submit without what each task has of its own."""
    template = {item.name: getattr(task, item.name) for item in fields(task) if item.name not in _OF_THE_RUN}
    rules = None if task.rules is None else task.rules.to_json()
    question = None if task.question is None else task.question.to_json()
    return {"task": template | {"priority": int(task.priority), "rules": rules, "question": question}}


def templated_task(template: Mapping[str, Any], *, id: str, origin: Origin, now: float) -> NewTask:
    """The submit of ``task_template`` again."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) and name != "payload" else value
        for name, value in template["task"].items()
    }
    values |= {"priority": Priority(values["priority"]), "rules": TaskRules.from_json(values["rules"])}
    question = values.get("question")  # templates of an earlier build have none
    values["question"] = None if question is None else Question.from_json(question)
    return NewTask(id=id, origin=origin, created_at=now, **values)

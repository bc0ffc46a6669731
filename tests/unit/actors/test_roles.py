"""Roles: which are desired, and what their names follow."""

from __future__ import annotations

from actors.composition.making import _MAKERS
from actors.roles import DEDICATED_AGENT, KINDS, actor_name, dedicated_role, desired_roles, fingerprint
from cluster.domain.agents.agent import Dedicated
from cluster.settings import load_settings


def test_names_of_agents_own_actors_follow_what_they_declare() -> None:
    settings = load_settings({})
    small, large = Dedicated(num_cpus=1, resources={"a": 1, "b": 2}), Dedicated(num_cpus=2)
    names = {
        actor_name(settings, dedicated_role("w", agent, needs)) for agent in ("a", "b") for needs in (small, large)
    }
    assert len(names) == 4
    again = Dedicated(num_cpus=1, resources={"b": 2, "a": 1})
    assert actor_name(settings, dedicated_role("w", "a", again)) in names
    assert dedicated_role("w", "a", small).key == dedicated_role("w", "a").key


def test_desired_roles_follow_the_settings_and_names_follow_what_matters() -> None:
    settings = load_settings({"ARAGORA_AGENT_HOSTS": "2", "ARAGORA_DELIBERATION_WORKERS": "3"})
    keys = [role.key for role in desired_roles(settings)]
    assert {role.kind for role in desired_roles(load_settings({}))} == set(KINDS) == set(_MAKERS) - {DEDICATED_AGENT}
    assert len(keys) == len(set(keys)) >= 9
    assert keys.index("scheduler-0") < keys.index("agent-host-0") < keys.index("health-monitor-0")
    assert fingerprint(settings) != fingerprint(load_settings({"ARAGORA_AGENT_HOSTS": "2"}))
    assert fingerprint(settings) == fingerprint(settings.model_copy(update={"api_url": "http://elsewhere"}))

"""Credentials on Postgres: of two changes at once one counts, and each workspace has its own."""

from __future__ import annotations

import asyncio

import pytest

from cluster.domain.access.sealing import NoSealingKey, Unsealable
from cluster.domain.agents.credentials import Credential, rotated
from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.postgres.stores import Stores

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_800_000_000.0


def _new(name: str = "c1", workspace: str = "w1", secret: str = "the first secret") -> Credential:
    return Credential(
        workspace=workspace,
        name=name,
        secrets=(secret,),
        created_at=NOW,
        created_by="p",
        changed_at=NOW,
        changed_by="p",
    )


def _record(workspace: str = "w1", kind: str = "credential.set") -> LogRecord:
    return record_for(Origin(workspace=workspace), NOW, kind, "c1", {"credential": "c1"})


async def test_of_changes_at_once_one_counts(stores: Stores) -> None:
    store = stores.credentials([KEY])
    made = await asyncio.gather(*(store.put(_new(secret=f"candidate {n}"), _record()) for n in range(5)))
    assert sorted(made) == [False] * 4 + [True]
    stored = await store.get("w1", "c1")
    assert stored is not None
    changes = [rotated(stored, f"the next secret {n}", "p", NOW, 60.0) for n in range(5)]
    assert sorted(await asyncio.gather(*(store.put(change, _record()) for change in changes))) == [False] * 4 + [True]
    assert len([row for row in await stores.log.read(0, 100) if row.kind == "credential.set"]) == 2


async def test_a_workspace_has_credentials_of_its_own(stores: Stores) -> None:
    store = stores.credentials([KEY])
    for workspace in ("w1", "w2"):
        assert await store.put(_new(workspace=workspace, secret=f"secret of {workspace}"), _record(workspace))
    found = await store.get("w2", "c1")
    assert found is not None
    assert found.secrets == ("secret of w2",)
    assert await store.remove("w1", "c1", _record("w1", "credential.deleted"))
    assert not await store.remove("w1", "c1", _record("w1", "credential.deleted"))
    assert (await store.list("w1"), len(await store.list("w2"))) == ([], 1)
    # Whoever writes to the table cannot pass one off as another.
    await stores.pool.execute("update secrets set name = 'credential/w1/c1', workspace = 'w1'")
    with pytest.raises(Conflict, match="was changed"):
        await store.get("w1", "c1")


async def test_one_that_cannot_be_opened_keeps_no_other(stores: Stores) -> None:
    await stores.credentials([OTHER]).put(_new("locked"), _record())
    store = stores.credentials([KEY])
    await store.put(_new("c1"), _record())
    locked, absent, found = await store.read([("w1", "locked"), ("w1", "absent"), ("w1", "c1")])
    assert isinstance(locked, Unsealable)
    assert absent is None
    assert isinstance(found, Credential)
    with pytest.raises(NoSealingKey, match="ARAGORA_SECRETS_KEY"):
        await stores.credentials([]).list("w1")

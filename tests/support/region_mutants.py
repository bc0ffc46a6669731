"""Mistakes with which a region's process can be started: ``ARAGORA_TEST_MUTANT`` names one. A run with faults has to find each of
them, or it proves nothing."""

from __future__ import annotations

import os
from contextlib import ExitStack

from cluster.postgres.stores import Stores
from tests.regions.simulation.mutants import MUTANTS

MUTANT = "ARAGORA_TEST_MUTANT"
#: Of the machine, as the simulation makes them.
ACKNOWLEDGE_EARLY, PROMOTE_ANY = "acknowledge early", "promote any"
#: Of what the machine relies on: the database's check of each commit, and where a client's cursor goes on.
EPOCH_UNCHECKED, CURSOR_RESET = "epoch unchecked", "cursor reset"

#: What it holds is undone when it is collected.
_MADE = ExitStack()
_CHECKED = """select pg_get_functiondef(oid) as text from pg_proc
              where pronamespace = current_schema()::regnamespace and prosrc like '%v_state.trusted_until%'"""
_CHECKS = (
    "v_state.epoch is distinct from p_epoch",
    "v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp()",
)


def is_made(mutant: str) -> bool:
    return os.environ.get(MUTANT) == mutant


def make_mistake() -> None:
    """Changes this process for good, if the mistake is one of the machine."""
    for mutant in MUTANTS:
        if is_made(mutant.name):
            _MADE.enter_context(mutant.applied())


async def make_mistake_in(stores: Stores) -> None:
    """Changes the database, if the mistake is its own."""
    if is_made(EPOCH_UNCHECKED):
        for row in await stores.pool.rows(_CHECKED):
            text = str(row["text"])
            for check in _CHECKS:
                text = text.replace(check, "false")
            await stores.pool.execute(text)

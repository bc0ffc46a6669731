"""docs/deliberations.md, its tables written from the protocol's own: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from cluster.domain.consensus.rule import ALIASES
from cluster.domain.deliberation.answers import ANSWER_KINDS
from cluster.domain.deliberation.contract import DEBATE_ON
from cluster.domain.deliberation.decision import STOP_REASONS
from cluster.domain.deliberation.machine import PHASE_SHARE
from cluster.domain.deliberation.sla import THRESHOLDS
from cluster.domain.deliberation.state import TRANSITIONS
from cluster.domain.deliberation.wire import record_status, status
from scripts.docs.deliberation_words import MODES, TERMINALS

HEAD = """# Deliberations

A deliberation puts one question to several agents and ends in a decision with a confidence, the dissent, and everything
that was said. `make docs` writes the tables on this page from the code that runs.

```bash
aragora-cp deliberate "Which database should we use?" --options Postgres,Redis,SQLite
aragora-cp deliberate "How many seats do we need?" --type number --tolerance 5 --budget-tokens 20000
aragora-cp deliberate "How should we name it?" --consensus judge --timeout 120
```

Over HTTP it is `POST /api/control-plane/deliberations`:

```json
{"content": "Which database should we use?",
 "config": {"options": ["Postgres", "Redis", "SQLite"], "consensus": "agree_k", "budget": {"tokens": 20000}},
 "timeout_seconds": 120}
```

`documents` (texts), `attachments` and `evidence` (objects), at most 50 of each and 64 KiB of JSON together, are shown to
everybody on the panel as quoted data, never as instructions, and are part of the hashed contract; more is a 400. Nothing
is fetched: what is to be read must be in the body.

## How it goes

1. **Panel.** The agents of `config.agents`, else those that take work and have all of `required_capabilities` (the
   default `["deliberation"]` means `deliberation` or `debate`), at most `max_agents` (7), by weight, then least load.
   Where there are too few, it waits for them until a quarter of the time is over. An agent that `config.agents` names and
   that is not there by then is `lost` in the result: nobody takes its place, and the others decide if they are a quorum.
2. **First answers.** Every agent answers on its own, without seeing the others. By default two are asked first; if they
   agree, that is the decision, and the rest is never asked. If not, each further wave is the fewest agents who could
   settle it.
3. **Debate, only on disagreement.** At most `rounds` (2) rounds. Each agent sees at most `peers` (2) answers that differ
   from its own, with their rationales: anonymous, in an order of its own, without counts or confidences, quoted as data.
   It names defects, then keeps or changes its answer. A change without a reason counts half.
4. **Decision.** A debate overturns the first answers only if the confidence is higher after it; as long as it is not
   calibrated, the new answer must also lead by half a panel over first and last votes together. `debate_delta` in every
   result says what the debate was worth: the answer before it, the answer after it, and the calls between.

An answer that does not fit is repaired once; after that the agent abstains (`malformed`). So does one that cannot be kept or read
(NaN, `1e999`, half a surrogate pair, 5,000 digits, nesting over 64): it is the answer of its member alone, and the others decide.
Below quorum, agents that gave
nothing are replaced once by others with the capabilities (not where `config.agents` names the panel). Connection errors,
429 and 5xx are tried again at most twice, under the same idempotency key.

Every step is journalled before it is carried out. A worker that is killed is followed by one that reads the journal: an
answer that is there is never paid for again, a call that was in flight is repeated under the same key, counted, and billed.
"""

BUDGET = """
## Budget

`config.budget` is `{"tokens": n, "usd": x}`, both optional (`budget_tokens` and `budget_usd` do as well). Before a call,
its prompt as estimated and all the tokens that it may answer with (`max_tokens`) are reserved, at the prices that the
agent registered in `options.price` (`{"input_per_mtok": 3, "output_per_mtok": 15}`, US dollars per million tokens; an
agent without a price costs nothing). When it has answered, what its server counted is settled; where the server counts
nothing, our estimate, and the result says `estimated`. Spent and reserved together never exceed the budget.

A call that is cancelled, times out or is still out at the end is billed at its reservation. An agent that bills more than
the budget can pay is not asked again, and the excess is listed apart, as `overrun_tokens` and `overrun_usd`.

`result.cost` is `{tokens, usd, budget_tokens, budget_usd, overrun_tokens, overrun_usd, estimated}`.
"""

SLA = """
Each crossing is notified once, as an event `deliberation_sla_warning`, `_critical` or `_violated`. The metric
`aragora_cp_deliberation_sla_total` counts a deliberation once, by its final level. At the deadline it ends, with what it
has: `authoritative` is false.
"""

CONFIDENCE = """
## What the confidence means

`confidence_calibrated: true`: the confidence is the share of recorded outcomes of this kind that were right, fitted on the
outcomes that were reported for these agents. Of decisions with 0.8, about 8 in 10 are right.

`confidence_calibrated: false`: nothing was recorded that it could be fitted on. The number is the share of the panel that
stands behind the answer (agents that were not asked count as not behind it). It is not a probability.

The sum of what the agents say about their own confidence is never used: models agree in their errors.
"""

WIRE = """
## Calls

| Call | Answer |
|---|---|
| `POST /deliberations` | 200 with the result; 202 with `Location` when `async` is true or it takes longer than 24 s |
| `GET /deliberations` | a page, newest first (`limit`, `offset`) |
| `GET /deliberations/{request_id}` | the record, from admission on; 404 only for an unknown id |
| `GET /deliberations/{request_id}/status` | `status`, `terminal` |
| `GET /deliberations/{request_id}/transcript` | every journalled step, with the agents' own words |
| `POST /deliberations/{request_id}/cancel` | `{"cancelled": true}`, also when repeated; 409 after another end |
| `GET /stream?deliberation_id=…` | its events as they are committed: see [streams](streams.md) |

A resend is one deliberation: by `Idempotency-Key`, else by `request_id`, else by who asks and the body while the first one
runs and 60 s after. A synchronous call that reaches its deadline is 200 with `status: "timeout"`.

`decision_type`: `auto` and `debate` are the protocol above, `quick` is it without debate; anything else is 400
`unsupported_decision_type`. It is never guessed from the words of the question. `byzantine` and other modes that are not in
the table are 400 `unsupported_consensus_mode`.
"""

CONFIG = (
    ("options", "2 to 26 answers to choose from", "none: a free text"),
    ("answer_type", "see Answers", "`choice` with options, else `text`"),
    ("unit, tolerance, schema", "of `number` and `json` answers", ""),
    ("agents", "the panel, by id", "by capabilities"),
    ("consensus", "see Modes", "`agree_k`"),
    ("k, escalate_to", "of `agree_k`", "2, `learned`"),
    ("q", "share of `supermajority`", "2/3"),
    ("denominator", "`eligible` (the panel) or `cast` (without abstentions)", "`eligible`"),
    ("tie_break", "`no_consensus`, `seeded` or `alpha`, after weights and accepted rationales", "`no_consensus`"),
    ("tau", "a calibrated confidence that ends the asking", "0.9"),
    ("rounds", "debate rounds at most, 0 to 9", "2"),
    ("debate_on", "see below", "`auto`"),
    ("peers", "how many differing answers each agent is shown", "2"),
    ("judge", "the agent that judges", "one with capability `judge`, else a spare one"),
    ("min_agents, quorum_ratio", "votes needed: the larger of the number and the share of those asked", "2, 0.5"),
    ("max_agents", "size of the panel at most", "7"),
    ("max_tokens", "of each answer", "256"),
    ("budget", "see Budget", "no limit"),
    ("timeout_seconds", "the deadline (the body's `timeout_seconds` wins)", "300"),
    ("seed", "of every shuffle and seeded tie", "from the body"),
)


def page() -> str:
    parts = [
        HEAD,
        "\n## Configuration\n\n",
        _table(("`config.`", "Meaning", "Default"), ((f"`{name}`", what, default) for name, what, default in CONFIG)),
        "\n`debate_on`, where rounds are left:\n\n",
        _table(("Value", "A debate is held if"), ((f"`{name}`", when) for name, when in DEBATE_ON.items())),
        "\n## Answers\n\n",
        _table(
            ("`answer_type`", "Is", "Two answers are one if"),
            ((f"`{kind.value}`", what, same) for kind, (what, same) in ANSWER_KINDS.items()),
        ),
        "\nLikeness of texts never merges answers. Texts become candidates; the agents then vote for one of them.\n",
        "\n## Modes\n\n",
        _table(
            ("`consensus`", "Decides for", "Needs", "First answers are asked for"),
            ((f"`{mode.value}`", *words) for mode, words in MODES.items()),
        ),
        f"\n{', '.join(f'`{alias}` is `{mode.value}`' for alias, mode in ALIASES.items())}. A tie is broken by the",
        " learned weights, then by the rationales that critics accepted, then as `tie_break` says.\n",
        "\n## Ends\n\n",
        _table(
            ("`terminal`", "When", "`deliberation_status`", "`status` of record and result"),
            (
                (f"`{terminal.value}`", when, f"`{status('', terminal.value)}`", f"`{record_status(terminal.value)}`")
                for terminal, when in TERMINALS.items()
            ),
        ),
        "\nBefore the end, `deliberation_status` is `pending`, `scheduled`, then `in_progress`. Every end but `FAILED`",
        " carries the best answer so far and the dissent.\n",
        BUDGET,
        "\n## Service levels\n\n",
        _table(
            ("Level", "From this share of the time"), ((f"`{level.value}`", f"{at:.0%}") for level, at in THRESHOLDS)
        ),
        SLA,
        CONFIDENCE,
        "\n## Phases and stops\n\n",
        _table(
            ("From", "To", "When (the first that holds)"),
            (
                (f"`{phase.value}`", f"`{rule.to.value}`", rule.when)
                for phase, rules in TRANSITIONS.items()
                for rule in rules
            ),
        ),
        "\nStops, in the order in which they are tried; the result names the one that fired in `stop`:\n\n",
        _table(("Stop", "Fires when"), ((f"`{name}`", when) for name, when in STOP_REASONS.items())),
        "\nStragglers of a phase are given up when its share of the time is over, if there is a quorum without them: ",
        ", ".join(f"`{phase.value}` {share:.0%}" for phase, share in PHASE_SHARE.items()),
        "; debate rounds share what lies between. Their answers are journalled and billed when they come, not counted.\n",
        WIRE,
    ]
    return "".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())

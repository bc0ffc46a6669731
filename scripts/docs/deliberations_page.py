"""Writes docs/deliberations.md, with the tables of the protocol: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from cluster.domain.consensus.effort import EFFORTS
from cluster.domain.consensus.rule import ALIASES
from cluster.domain.deliberation.answers import ANSWER_KINDS
from cluster.domain.deliberation.asking import ASK_WHEN
from cluster.domain.deliberation.config import DEBATE_ON
from cluster.domain.deliberation.decision import STOP_REASONS
from cluster.domain.deliberation.sla import THRESHOLDS
from cluster.domain.deliberation.state import TRANSITIONS
from cluster.domain.deliberation.timing import PHASE_SHARE
from cluster.domain.deliberation.wire import record_status, status
from scripts.docs.deliberation_words import MODES, TERMINALS

HEAD = """# Deliberations

A deliberation puts one question to several agents and ends in a decision with its confidence, its dissent, and a
transcript of all answers. `make docs` writes the tables on this page from the code.

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

`documents` (texts), `attachments` and `evidence` (objects) are shown to the whole panel as quoted data, never as
instructions, and are part of the hashed contract. There may be 50 of each and 64 KiB of JSON in all; more is a 400. Nothing
is fetched: put into the body what the agents should read.

## How it goes

1. **Panel.** The agents of `config.agents`, else those that take work and have all of `required_capabilities` (the
   default `["deliberation"]` means `deliberation` or `debate`), at most `max_agents` (7), by weight, then least load.
   If there are too few, the deliberation waits for more until a quarter of its time is over. An agent that `config.agents`
   names and that is not available by then is `lost` in the result. It is not replaced; the others decide if they are a
   quorum.
2. **First answers.** Every agent answers without seeing the other answers. By default two agents are asked first; if they
   agree, that is the decision, and the other agents are never asked. If not, agents are asked in further waves, each of
   the fewest agents who could settle the question.
3. **Debate, only on disagreement.** At most `rounds` (2) rounds. Each agent is shown at most `peers` (2) answers that
   differ from its own, with their rationales. They are anonymous, quoted as data, shuffled for each agent, and without
   counts or confidences. The agent names defects, then keeps or changes its answer. A change without a reason counts half.
4. **Decision.** A debate overturns the first answers only if the confidence is higher after it. While the confidence is
   not calibrated, the new answer must also lead by half a panel, first and last votes taken together. `debate_delta` in
   every result shows what the debate changed: the answer before it, the answer after it, and its number of calls.

An answer is the last JSON object in a reply that has the shape that was asked for; what a model thinks (`<think>…</think>`
and the like) does not count. If an answer does not fit its schema, the agent is asked once more; if the second answer does
not fit either, the agent abstains (`malformed`). The same holds for an answer that cannot be stored or parsed (NaN, `1e999`,
half a surrogate pair, 5,000 digits, nesting over 64); the other members decide. If the quorum is missed, agents that gave no
answer are replaced once by others with the capabilities, unless `config.agents` names the panel. Calls that end in a
connection error, 429 or 5xx are repeated at most twice, under the same idempotency key.

Every step is journalled before it is carried out. If a worker is killed, the next one reads the journal: an answer that is
in it is never paid for again, and a call that was in flight is repeated under the same key, counted, and billed.
"""

BUDGET = """
## Budget

`config.budget` is `{"tokens": n, "usd": x}`, both optional (`budget_tokens` and `budget_usd` work as well). Before a call,
the estimated tokens of its prompt and the most tokens of its answer (`max_tokens`) are reserved, at the price that the
agent registered (`price`: `{"input_per_mtok": 3, "output_per_mtok": 15}`, US dollars per million tokens; an agent without
a price costs nothing). When the agent has answered, the tokens that its server counted are billed instead; if the server
counts none, our estimate is billed and the result says `estimated`. Spent and reserved together never exceed the budget.

A call that is cancelled, times out or is still open at the end is billed at its reservation. An agent that bills more than
the budget can pay is not asked again, and the excess is listed separately, as `overrun_tokens` and `overrun_usd`.

`result.cost` is `{tokens, usd, budget_tokens, budget_usd, overrun_tokens, overrun_usd, estimated}`.
"""

SLA = """
Each level that is reached is announced once, as an event `deliberation_sla_warning`, `_critical` or `_violated`. The metric
`aragora_cp_deliberation_sla_total` counts a deliberation once, by its final level. At the deadline the deliberation ends
with the best answer that it has, and `authoritative` is false.
"""

PERSON = """
## A person at the end

`config.ask_person` puts the end to a person, before it is one: to approve what the agents decided, to reject it, or to give
another answer. The votes stay as they were; the result and the [receipt](receipts.md) say who decided.

```sh person
aragora-cp deliberate "Ship it?" --options yes,no --consensus majority --rounds 0 --ask-person no_consensus --answerers role:admin
```

```json person
{
  "content": "Ship it?",
  "async": true,
  "config": {
    "options": ["yes", "no"],
    "consensus": "majority",
    "rounds": 0,
    "ask_person": {
      "when": "below_confidence",
      "confidence": 0.9,
      "answerers": ["role:admin", "user:ann@example.com"],
      "time_limit_seconds": 86400,
      "default": "no"
    }
  }
}
```

| `config.ask_person.` | Meaning | Default |
| --- | --- | --- |
| `when` | see below | `no_consensus` |
| `confidence` | with `below_confidence`, and only then: from 0 to 1 | |
| `question` | what the person reads, up to 4,000 characters | the question, what the agents found, and the options |
| `answerers` | who may answer: `role:NAME`, `group:NAME`, `user:EMAIL`, `key:ID` | whoever may write tasks in the workspace |
| `time_limit_seconds` | how long the question stays open, from when it is asked | no end |
| `default` | the answer that applies when that time is over, which it needs | none: the outcome of the agents stays |

"""

PERSON_ANSWERS = """
Without a decision means: no consensus, a lost quorum, a budget that is used up, or the deadline. After a cancellation, or a
failure of the control plane, nobody is asked.

The question is a [task that people do](questions.md), of the type `deliberation.question`: `GET /questions` lists it, `aragora-cp
questions answer`, `approve` and `reject` answer it, and its payload has the question with what the agents found. While it is open
the deliberation's `state` is `INPUT_REQUIRED`, its `deliberation_status` stays `in_progress`, `status_detail` is
`input_required`, and `question_task_id` names the task. No agent is called. `timeout_seconds` is the time of the agents: it and
the service levels stop when the person is asked.

| Verdict | If the agents decided | If they did not |
| --- | --- | --- |
| approve | `DECIDED` with their answer | `DECIDED` with their best answer so far; if there is none, an approval needs an answer |
| answer, or approve with an answer | `DECIDED` with that answer | the same |
| reject | `NO_CONSENSUS`; their answer is the best so far | ends as they did |
| the default, at the end of the time | `DECIDED` with the default | the same |
| nobody in time and no default, or the task is cancelled | ends as they did | ends as they did |

So a decision with `always` stands if nobody answers; a `default` says otherwise. An answer has to fit `answer_type`: one of the
options, a number, a value of `schema`. `decided_by` of the result is `person` or `agents`, and `person` says more: `verdict`,
`answered_by`, `answered_at`, `rationale` (the reason of a rejection), and in `agents` how they had ended. `answer` and
`value` are the person's; confidence, tally, supporters and dissent are still those of the vote.

A cancelled deliberation takes its question back. It waits as well in a [schedule](schedules.md), in a [step of a
workflow](workflows.md) and in a [batch](batch.md), where it stays among the items that are asked at a time. While a workspace is
suspended nobody can answer, and the time of the question goes on; with a deleted workspace the deliberation is cancelled.
"""

CONFIDENCE = """
## What the confidence means

`confidence_calibrated: true`: the confidence is the share of right decisions among recorded outcomes of this kind, fitted
on the outcomes that were reported for these agents. Of decisions with confidence 0.8, about 8 in 10 are right.

`confidence_calibrated: false`: there were not enough recorded outcomes to fit it on. The number is the share of the panel
that gave the answer; agents that were not asked count as not having given it. It is not a probability.

The agents' statements about their own confidence are never summed up: models make the same errors.
"""

WIRE = """
## Finding them again

```bash
aragora-cp deliberations list --where 'metadata.pr=17' --status consensus_reached
aragora-cp deliberations list --where 'agent=critic' --where 'created>=2026-11-01'
```

`where` of `GET /deliberations` takes the conditions that [lists of tasks](tasks.md#finding-work) take. Metadata, `tags` and
`tenant` are those of the deliberation's `context`, so give it `{"pr": 17, "tags": ["review"]}` to find it by. The type is
`debate` or `quick`. The agents are the panel's, once it has ended. `status` is one of `deliberation_status`. Pages go on by
`cursor`, as those of tasks do; `deliberations` of the Python clients reads them all.

## Calls

| Call | Answer |
|---|---|
| `POST /deliberations` | 200 with the result; 202 with `Location` when `async` is true or it takes longer than 24 s |
| `GET /deliberations` | a page, newest first (`where`, `status`, `limit`, `cursor` or `offset`) |
| `GET /deliberations/{request_id}` | the record, from admission on; `wait` as for tasks; 404 only for an unknown id |
| `GET /deliberations/{request_id}/status` | `status`, `terminal` |
| `GET /deliberations/{request_id}/transcript` | every step of the journal, with the agents' answers |
| `POST /deliberations/{request_id}/cancel` | `{"cancelled": true}`, also if repeated; 409 if it has ended otherwise |
| `GET /stream?deliberation_id=…` | its events as they are committed: see [streams](streams.md) |

Outside of the default workspace, a `request_id` that you chose gets the workspace's mark
([permissions](permissions.md#workspaces)): the answer has the id with it, and paths take both.

A repeated call is the same deliberation if it has the same `Idempotency-Key`, else the same `request_id`, else the same
caller and body while the first one runs and for 60 s after. A synchronous call that reaches its deadline is answered 200
with `status: "timeout"`.

`decision_type`: `auto` and `debate` mean the protocol above, `quick` means it without debate; anything else is 400
`unsupported_decision_type`. It is never guessed from the words of the question. `byzantine` and other modes that are not in
the table are 400 `unsupported_consensus_mode`.
"""

CONFIG = (
    ("options", "2 to 26 answers to choose from", "none: a free text"),
    ("answer_type", "see Answers", "`choice` with options, else `text`"),
    ("unit, tolerance, schema", "unit and tolerance of `number` answers, JSON Schema of `json` answers", ""),
    ("agents", "the panel, by id", "by capabilities"),
    ("consensus", "see Modes", "`agree_k`"),
    (
        "kind",
        "what kind of question it is, up to 64 characters; its [weights](weights.md#kinds-of-questions) decide",
        "the first of `context.tags`",
    ),
    ("k, escalate_to", "settings of `agree_k`", "2, `learned`"),
    ("effort", "how many calls a decision is worth, under `agree_k`; see below", "two that agree are enough"),
    ("q", "the share that `supermajority` needs", "2/3"),
    ("denominator", "`eligible` (the panel) or `cast` (without abstentions)", "`eligible`"),
    ("tie_break", "`no_consensus`, `seeded` or `alpha`, after weights and accepted rationales", "`no_consensus`"),
    ("tau", "the calibrated confidence at which no further agents are asked", "0.9"),
    ("rounds", "most debate rounds, 0 to 9; not with `decision_type: quick`, which has none", "2"),
    ("debate_on", "see below", "`auto`"),
    ("peers", "how many differing answers each agent is shown", "2"),
    ("judge", "the agent that judges", "one with capability `judge`, else a spare one"),
    (
        "min_agents, quorum_ratio",
        "votes needed: the larger of the number and the share of those asked",
        "2 (1 with `effort` `least` or `default`), 0.5",
    ),
    ("max_agents", "most agents on the panel", "7"),
    ("max_tokens", "most tokens of each answer", "256"),
    ("budget", "see Budget", "no limit"),
    ("timeout_seconds", "the deadline (the body's `timeout_seconds` wins)", "300"),
    ("ask_person", "see [A person at the end](#a-person-at-the-end)", "nobody is asked"),
    ("seed", "seed of every shuffle and of seeded tie breaks", "made from the body"),
)


LARGE_NUMBERS = """
Numbers from 2^53 on are not rounded: `9007199254740993`, `"9,007,199,254,740,993"` and `"9007199254740993 wei"` (if `unit` is
`wei`) are the same answer, and `9007199254740992` is another one. Canonical JSON has no such numbers, so `value` is then a
string with the unit (`"9007199254740993 wei"`), as it is in the receipt; with more than 60 digits before the point it has an
exponent (`"1e+300"`). In `json` answers such a number becomes a string of its digits, after the check against `schema`.
Smaller numbers stay numbers.

`schema` may have 20,000 bytes; it is checked with the request, as the schema of a task is
([agent contract](agent-contract.md)). The journal keeps of each reply and rationale 8 bytes per token of `max_tokens`, at most
32,768 of a reply and 4,000 of a rationale; a longer one ends with ` […cut]`.
"""


def page() -> str:
    parts = [
        HEAD,
        "\n## Configuration\n\n",
        _table(("`config.`", "Meaning", "Default"), ((f"`{name}`", what, default) for name, what, default in CONFIG)),
        "\nAny other name in `config` is a 400 that says which one is nearest, because a misspelt name would silently mean the\n"
        "default. Names that only the released server knows (`early_stopping`, `decision_integrity`, `workflow…`,\n"
        "`gauntlet…`, `evidence…`) are ignored. `null` means the default; any other value that does not fit is a 400, and\n"
        "so is a call that contradicts itself: `mode` against `async`, an agent named twice, `min_agents` above\n"
        "`max_agents`, `budget` beside `budget_tokens` or `budget_usd`.\n",
        "\n`debate_on`, if there are rounds left:\n\n",
        _table(("Value", "A debate is held if"), ((f"`{name}`", when) for name, when in DEBATE_ON.items())),
        "\n`effort`, where `consensus` is `agree_k` and answers are no texts",
        " ([what it saves and costs](weights.md#asking-by-expected-gain)):\n\n",
        _table(("Value", "Asks"), ((f"`{effort.value}`", what) for effort, what in EFFORTS.items())),
        "\n## Answers\n\n",
        _table(
            ("`answer_type`", "Is", "Two answers are one if"),
            ((f"`{kind.value}`", what, same) for kind, (what, same) in ANSWER_KINDS.items()),
        ),
        "\nAnswers are never merged because their texts are similar. Texts become candidates, and the agents vote for one.\n",
        LARGE_NUMBERS,
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
        " comes with the best answer so far and the dissent.\n",
        PERSON,
        _table(("`when`", "A person is asked if"), ((f"`{when.value}`", what) for when, what in ASK_WHEN.items())),
        PERSON_ANSWERS,
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
        "\nReasons to stop, in the order in which they are checked; `stop` in the result names the one that applied:\n\n",
        _table(("Stop", "Fires when"), ((f"`{name}`", when) for name, when in STOP_REASONS.items())),
        "\nA phase stops waiting for late agents when its share of the time is over, if there is a quorum without them: ",
        ", ".join(f"`{phase.value}` {share:.0%}" for phase, share in PHASE_SHARE.items()),
        "; debate rounds share the time between. Late answers are journalled and billed when they come, but not counted.\n",
        WIRE,
    ]
    return "".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())

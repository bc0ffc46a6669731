"""How long a call of the API may take, and what in front of it and around it has to wait for that.

A changed number of API replicas replaces HAProxy's process and ends a replica. Both let the calls that they have in
hand end, up to a bound; what is longer is cut, and the client sees a 500 or a broken connection. So every bound is
derived from the longest call, here, and a test holds the manifests to it. Streams (SSE, WebSocket) have no longest: they
are cut at the bound, and resume by their cursor.
"""

from __future__ import annotations

from typing import Final

#: The longest that a call waits on purpose: a claim for work. A synchronous deliberation waits a second less.
LONGEST_WAIT_S: Final = 25
#: What a call may take beside its wait: a store or an actor that is away is waited for 10 s (``cluster.rpc.exchange``).
WORK_S: Final = 10
LONGEST_CALL_S: Final = LONGEST_WAIT_S + WORK_S

#: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S: a HAProxy process that was replaced is killed after this, whatever it has in hand.
HAPROXY_HARD_STOP_S: Final = LONGEST_CALL_S + 5

#: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S: a replica that leaves takes calls this long, until every HAProxy has
#: heard of it. On one machine there is one HAProxy.
DRAINING_S: Final = 5
DRAINING_EMBEDDED_S: Final = 1

#: ``graceful_shutdown_timeout_s`` of the API's deployment, counted from when the replica is told to leave: the call that
#: it took last may be as long as any. One that has nothing in hand leaves as soon as it has drained.
REPLICA_GRACE_S: Final = DRAINING_S + LONGEST_CALL_S + 5

#: ``terminationGracePeriodSeconds`` of the pods: not before a replica's own time is over.
POD_GRACE_S: Final = REPLICA_GRACE_S + 15

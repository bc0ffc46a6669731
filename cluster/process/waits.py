"""How long a call of the API may take, and how long proxies, replicas and pods have to wait for open calls.

If the number of API replicas changes, HAProxy's process is replaced and perhaps a replica ends. Both let open calls end,
up to a bound. A call that takes longer is cut, and its client sees a 500 or a broken connection. So every bound is
derived here from the longest call, and a test holds the manifests to it. Streams (SSE, WebSocket) may last for ever: each
replica ends its own well before the bound (`serve_app/streams/endings.py`), and they resume by their cursor.
"""

from __future__ import annotations

from typing import Final

#: How long a call waits on purpose at most: a claim for work. A synchronous deliberation waits a second less.
LONGEST_WAIT_S: Final = 25
#: How long a call waits for a store or an actor that is away or hangs, before it is answered 503. Clients give up on a call
#: that takes much longer, and a load balancer takes its replica for dead.
AWAY_S: Final = 4.9
#: Of that, how long the database may take over one statement. Returning the connection takes up to half a second more.
STORE_S: Final = 4.2
#: How long a call is held for the successor of an actor that died, and how long it waits for it in all. The shard is back
#: after two to three seconds, but on a crowded machine it has taken more than five, and released clients repeat no 503.
HOLD_S: Final = 9.0
RESTART_S: Final = 9.8
#: What a call may take beyond its wait, for a store or an actor that is away (``AWAY_S``) and for its work.
WORK_S: Final = 10
LONGEST_CALL_S: Final = LONGEST_WAIT_S + WORK_S

#: RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S: a HAProxy process that was replaced is killed after this, with its open calls.
HAPROXY_HARD_STOP_S: Final = LONGEST_CALL_S + 5

#: RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S: Serve starts HAProxy again after three failed checks. Until then the stopgap of
#: `cluster.process.haproxy` answers, with the replicas of its time. A check that gets no answer takes 5 s or more, so a
#: machine has to be busy for 15 s at a stretch before HAProxy is replaced without need; Serve's default is 10.
PROXY_CHECK_S: Final = 2
#: RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S: how long HAProxy and its actor may take to start before Serve ends them and tries
#: again. Serve's default of 5 is too short on a busy machine, and each try makes it busier.
PROXY_READY_S: Final = 30

#: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S: a replica that leaves accepts calls for this long, until every HAProxy
#: knows that it leaves. On one machine there is one HAProxy.
DRAINING_S: Final = 5
DRAINING_EMBEDDED_S: Final = 1

#: ``graceful_shutdown_timeout_s`` of the API's deployment, counted from when the replica is told to leave: its
#: last call may be as long as any. A replica without open calls ends as soon as it has drained.
REPLICA_GRACE_S: Final = DRAINING_S + LONGEST_CALL_S + 5

#: ``terminationGracePeriodSeconds`` of the pods: not before a replica's own time is over.
POD_GRACE_S: Final = REPLICA_GRACE_S + 15

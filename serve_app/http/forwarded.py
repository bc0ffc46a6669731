"""Who is believed about a call's client: `serve_app.auth.clients` decides, and no server in front of our code."""

from __future__ import annotations

import os
from typing import Final

#: uvicorn believes the X-Forwarded-For of the addresses in this variable, by default of loopback, and puts what it says into the
#: scope before our code sees it. Serve builds uvicorn's configuration itself and passes no choice of ours, but reads this.
VARIABLE: Final = "FORWARDED_ALLOW_IPS"


def leave_forwarding_to_us() -> None:
    """Makes servers that this process starts from now on leave the address and the scheme of a call as they are. The empty text
    names no address; an environment that names some is overruled, since ARAGORA_TRUSTED_PROXIES is where to name them."""
    os.environ[VARIABLE] = ""  # noqa: TID251 - uvicorn reads it

"""One region as a process of its own, without Ray: ``python -m tests.support.region_api``, with settings in its environment.

It is the product's own (`serve_app.one_process`), but for the mistake that ``ARAGORA_TEST_MUTANT`` may name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from actors.composition.resources import load_process_settings
from serve_app.one_process import serve
from tests.support.region_mutants import make_mistake


def main() -> None:
    make_mistake()
    settings = load_process_settings().model_copy(update={"embedded": True, "auth_enabled": False})
    asyncio.run(serve(settings, on_fatal=_begin_anew))


def _begin_anew(error: BaseException) -> None:
    """``up`` starts a process again that has ended, as one does whose region is copied anew: here it becomes the next."""
    logging.getLogger(__name__).warning("this process begins anew: %s", error)
    os.execv(sys.executable, [sys.executable, "-m", "tests.support.region_api"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    main()

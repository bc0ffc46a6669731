# The image that ray-cluster.yaml and kuberay/ name:
#   docker build -t aragora/control-plane:0.12.0 .
# The base's digest, for those who pin it: --build-arg BASE_DIGEST=@sha256:…, as their registry has it. None is written here,
# since one that was not read from the registry that is pulled from would be a guess.
ARG BASE_DIGEST=""
FROM python:3.11.14-slim-bookworm${BASE_DIGEST}

# wget: KubeRay's own probes call it; curl: the health checks of compose files do.
RUN apt-get update \
    && apt-get install --no-install-recommends --yes ca-certificates curl wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ray \
    && install --directory --owner=1000 --group=1000 --mode=0700 /var/lib/aragora

WORKDIR /opt/aragora
ENV PATH=/opt/aragora/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    ARAGORA_HTTP_HOST=0.0.0.0 \
    ARAGORA_DATA_DIR=/var/lib/aragora

# Dependencies in a layer of their own. What the project needs to run (no embedded servers, no demo, no test tools),
# each package of the version and with a hash of the lock. The worker kit is of this repository, so no index has it.
COPY pyproject.toml requirements.lock ./
RUN python -m venv .venv \
    && pip install --no-cache-dir uv==0.13.9 \
    && echo aragora-worker > ours.txt \
    && uv pip install --no-cache --python .venv/bin/python --require-hashes --excludes ours.txt \
        --constraint requirements.lock --requirement pyproject.toml --extra a2a --extra mcp

COPY README.md LICENSE ./
COPY actors actors
COPY clients clients
COPY cluster cluster
COPY regions regions
COPY serve_app serve_app
RUN uv pip install --no-cache --python .venv/bin/python --no-deps ./clients/python .

USER 1000:1000
EXPOSE 8080 9090
# KubeRay and `ray up` start Ray by their own commands. By itself the image is a whole control plane in one container, for
# stores that ARAGORA_DATABASE_URL and ARAGORA_REDIS_URL name.
CMD ["aragora-cp", "up"]

"""What ``up`` deploys follows the settings, and what ``env`` prints is what Ray's commands read."""

from __future__ import annotations

import pytest

from cluster.cli.connection import ray_variables
from cluster.cli.system import serve_config
from cluster.embedded.run_file import RunFile
from cluster.settings import SettingsError, load_settings


def _replicas(**environ: str) -> int:
    config = serve_config(load_settings(environ))
    (api,) = [item for item in config["applications"][0]["deployments"] if item["name"] == "Api"]
    return int(api["num_replicas"])


def test_the_number_of_api_replicas_is_a_setting() -> None:
    assert _replicas() == 1
    assert _replicas(ARAGORA_API_REPLICAS="3") == 3


@pytest.mark.parametrize("value", ["0", "-1", "17", "many"])
def test_an_impossible_number_of_replicas_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="ARAGORA_API_REPLICAS"):
        load_settings({"ARAGORA_API_REPLICAS": value})


def test_the_number_of_replicas_replaces_no_actor() -> None:
    assert load_settings({"ARAGORA_API_REPLICAS": "3"}).fingerprint() == load_settings({}).fingerprint()


def test_ray_status_and_ray_job_each_get_their_address() -> None:
    running = RunFile(
        api_url="http://127.0.0.1:1",
        docs_url="",
        metrics_url="",
        dashboard_url="http://127.0.0.1:2",
        ray_address="127.0.0.1:3",
        ray_token_path="/a token",
    )
    variables = ray_variables(running)
    assert variables["RAY_ADDRESS"] == "127.0.0.1:3"
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert variables["RAY_API_SERVER_ADDRESS"] == variables["RAY_DASHBOARD_ADDRESS"] == "http://127.0.0.1:2"

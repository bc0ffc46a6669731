from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.task_api import TaskApi


@pytest.fixture
def tasks(api: Api) -> TaskApi:
    return TaskApi(api)

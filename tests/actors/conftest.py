from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cluster.postgres.stores import Stores
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from tests.support.shards import Cluster
from tests.support.stores import StoreUrls, fresh_name


@pytest.fixture
async def cluster(stores: Stores, store_urls: StoreUrls) -> AsyncIterator[Cluster]:
    client = connect(store_urls.redis)
    made = Cluster(stores, RedisDoorbell(client, fresh_name()))
    await made.start()
    yield made
    if made.shard is not None:
        await made.shard.stop()
    await made.client.close()
    await made.bell.close()
    await client.aclose()

"""One Redis for the tests of stores."""

from collections.abc import Iterator

import pytest

from .redis_server import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """Return a running Redis; whoever kills it starts it again."""
    with running_redis() as server:
        yield server

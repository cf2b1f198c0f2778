"""One Redis for the tests of stores, and one cluster."""

from collections.abc import Iterator

import pytest

from .redis_server import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """Return a running Redis; whoever kills it starts it again."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a cluster of one node, which refuses scripts whose keys are of several slots."""
    home = tmp_path_factory.mktemp("cluster")
    options = ("--cluster-enabled", "yes", "--dir", str(home), "--cluster-node-timeout", "5000")
    with running_redis(*options, below=55_000) as server:
        for half in (range(8192), range(8192, 16384)):
            assert server.command("CLUSTER", "ADDSLOTS", *map(str, half)) == b"+OK\r\n"
        while b"cluster_state:ok" not in server.command("CLUSTER", "INFO", lines=2):
            pass  # until it knows that it has all slots
        yield server

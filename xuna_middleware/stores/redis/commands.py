"""Send a command to Redis once, whatever client sends it.

redis-py's clients repeat a command by default when its answer is lost; but it may have been carried
out, and a reservation that is made twice, or a ticket that was taken already, is lost. Their
settings are their owner's, for commands of the owner's own, and stay as they are.
"""

from typing import Any

from xuna_middleware.errors import ConfigurationError


def check_client(client: Any) -> None:
    """Refuse a client of which nobody knows how to make it send something once.

    Raises:
        ConfigurationError: it is neither a `redis.asyncio.Redis` nor a `RedisCluster`.
    """
    if not (hasattr(client, "connection_pool") or hasattr(client, "get_node_from_key")):
        raise ConfigurationError(
            "RedisStore(client=…) must be a redis.asyncio.Redis, from Sentinel too, or a "
            "redis.asyncio.RedisCluster: others may send a command twice"
        )


async def send_once(client: Any, key: str, *command: Any) -> Any:
    """Send a command about `key`, and return the answer.

    Does not check: whether it was carried out where it raises what redis-py does.
    """
    if hasattr(client, "get_node_from_key"):
        await client.initialize()
        # Sent to a node by name, it is repeated only where that says it belongs to another.
        node = client.get_node_from_key(key)
        return await client.execute_command(*command, target_nodes=node)
    connection = await client.connection_pool.get_connection()
    try:  # a connection that fails, or whoever waits for it, closes it by itself
        await connection.send_command(*command)
        return await connection.read_response()
    finally:
        await client.connection_pool.release(connection)

"""Send a command to Redis once, with any client.

By default, redis-py's clients repeat a command when its answer is lost; but it may have been
executed, and then a reservation is made twice, or a ticket that was already taken is lost. The
client's settings are for its owner's own commands, and stay unchanged.
"""

from typing import Any

from xuna_middleware.errors import ConfigurationError


def check_client(client: Any) -> None:
    """Refuse a client of a type that isn't known to send a command only once.

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

    Does not check: whether the command was executed where redis-py raises an error.
    """
    if hasattr(client, "get_node_from_key"):
        await client.initialize()
        # Sent to a named node, it is repeated only if that node redirects it to another.
        node = client.get_node_from_key(key)
        return await client.execute_command(*command, target_nodes=node)
    connection = await client.connection_pool.get_connection()
    try:  # a failure or cancellation closes the connection
        await connection.send_command(*command)
        return await connection.read_response()
    finally:
        await client.connection_pool.release(connection)

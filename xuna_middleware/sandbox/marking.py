"""Mark every answer: `Xuna-Sandbox: true`, so that no client mistakes it for the real thing."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CARRIERS = {
    "http.response.start",
    "websocket.accept",
    "websocket.http.response.start",
}


class Marked:
    """Wrap an ASGI app and put the sandbox's header on whatever it answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] in _CARRIERS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)["Xuna-Sandbox"] = "true"
            await send(message)

        await self._app(scope, receive, marked)

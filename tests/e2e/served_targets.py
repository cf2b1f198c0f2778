"""What `test_request_targets.py` serves: frameworks' apps bare and behind the gate, and a record.

A request says in its headers which app it is for (`X-App`), whether the gate stands before it
(`X-Gate`) and the number that the record keeps it under (`X-Case`); `X-Report` asks for the record:
for each number the handlers that ran, and what the scope said of the target.
"""

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

sys.path.append(f"{Path(__file__).parents[1]}")

from served import new_gate  # type: ignore[import-not-found]
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.routers import RAN, Router, open_router

from xuna_middleware import XunaMiddleware

FRAMEWORKS: Final = os.environ["SERVED_FRAMEWORKS"].split(",")


async def _fail(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1011})
        return
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


class Recorded:
    """Hand each request to the app it names, and keep what became of it."""

    def __init__(self) -> None:
        self._opened = AsyncExitStack()
        self._apps: dict[tuple[str, str], ASGIApp] = {}
        self._record: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers = {name.lower(): value.decode() for name, value in scope["headers"]}
        if b"x-report" in headers:
            await self._report(send)
            return
        if not self._apps:
            await self._open()
        query, raw_path = scope["query_string"], scope.get("raw_path")
        seen = [scope["path"], (raw_path or b"").decode("latin1"), query.decode("latin1")]
        seen.append(scope["root_path"])
        RAN.clear()
        app = self._apps[headers[b"x-app"], headers.get(b"x-gate", "")]
        await self._run(app, headers[b"x-case"], seen, (scope, receive, send))

    async def _run(self, app: ASGIApp, case: str, seen: list[str], asked: Any) -> None:
        """Run an app; where it raises, answer for it: daphne takes a second to do so."""
        scope, receive, send = asked
        is_answered = False
        self._record[case] = [[], seen]

        async def send_on(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            self._record[case] = [list(RAN), seen]
            await send(message)

        try:
            await app(scope, receive, send_on)
        except Exception:
            if not is_answered:
                await _fail(scope, send)

    async def _open(self) -> None:
        gate = new_gate()
        for name in FRAMEWORKS:
            router: Router = await self._opened.enter_async_context(open_router(name))
            self._apps[name, ""] = router.app
            self._apps[name, "protect"] = XunaMiddleware(router.app, gate, protect=["/api"])
            self._apps[name, "public"] = XunaMiddleware(router.app, gate, public=["/open"])

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                await self._opened.aclose()
                return

    async def _report(self, send: Send) -> None:
        body = json.dumps(self._record).encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


app = Recorded()

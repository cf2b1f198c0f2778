"""fastapi-users: whoever its cookie has signed in may talk; a user who was locked out may not.

uvicorn examples.fastapi_users_app:app, with XUNA_AI_API_KEY and SESSION_SECRET in the environment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from examples.fastapi_users_accounts import Base, accounts, backend, cookie, engine, strategy, users
from xuna_middleware import Agent, Identity, XunaGate, XunaMiddleware


async def signed_in(connection: HTTPConnection) -> Identity | None:
    """Read the cookie as fastapi-users does: its `current_user` is for routes of your own."""
    token = connection.cookies.get(cookie.cookie_name)
    async with asynccontextmanager(accounts)() as manager:
        user = await strategy().read_token(token, manager)
    return Identity(subject=str(user.id)) if user and user.is_active else None


gate = XunaGate(authenticator=signed_in, agents=[Agent("support", id="agent_7101k5zvyjhmfg98")])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the tables: a real app has migrations."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.include_router(users.get_auth_router(backend))
app.add_middleware(XunaMiddleware, gate=gate)

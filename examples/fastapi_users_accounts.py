"""What an app with fastapi-users has already, as short as it gets: users, a cookie, a database."""

import os
import secrets
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from fastapi_users.authentication import AuthenticationBackend, CookieTransport, JWTStrategy
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase): ...


class User(SQLAlchemyBaseUserTableUUID, Base): ...


class Users(UUIDIDMixin, BaseUserManager[User, UUID]): ...


engine = create_async_engine("sqlite+aiosqlite://")  # in memory; yours lasts
sessions = async_sessionmaker(engine)


async def accounts() -> AsyncIterator[Users]:
    async with sessions() as session:
        yield Users(SQLAlchemyUserDatabase(session, User))


def strategy() -> JWTStrategy[User, UUID]:
    return JWTStrategy(secret, lifetime_seconds=3600)


secret = os.environ.get("SESSION_SECRET") or secrets.token_hex()
cookie = CookieTransport(cookie_name="session", cookie_max_age=3600)
backend = AuthenticationBackend("cookie", cookie, strategy)
users = FastAPIUsers[User, UUID](accounts, [backend])

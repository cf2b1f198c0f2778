"""The command line of the sandbox: serve both apps on loopback, or get a token from them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

import httpx
import typer

from xuna_middleware.sandbox.agents import SandboxAgent
from xuna_middleware.sandbox.people import VOICE_SCOPE
from xuna_middleware.sandbox.platform import SandboxPlatform
from xuna_middleware.sandbox.provider import SandboxProvider
from xuna_middleware.sandbox.redirects import LOOPBACK_REDIRECTS
from xuna_middleware.sandbox.rtc import missing_extra
from xuna_middleware.sandbox.serving import Place, serve
from xuna_middleware.sandbox.signing_in import SignInError, sign_in

_KEY_PREFIX: Final = "sandbox"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold the options of one run."""

    host: str
    port: int
    provider_port: int
    api_key: str | None
    audience: str
    redirect_uris: tuple[str, ...]
    overrides: frozenset[str]
    webhook_url: str | None


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Of the platform; 0 takes a free one.")] = 0,
    provider_port: Annotated[int, typer.Option(help="Of the provider; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="A loopback address; no other is served.")] = (
        "127.0.0.1"
    ),
    api_key: Annotated[
        str | None, typer.Option(help="Begins with «sandbox»; random by default.")
    ] = None,
    audience: Annotated[str, typer.Option(help="Of the provider's access tokens.")] = "voice",
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="One more address to sign in for; may be repeated.")
    ] = None,
    allow_override: Annotated[
        list[str] | None,
        typer.Option(help="Switch an override on, e.g. agent.language; may be repeated."),
    ] = None,
    webhook_url: Annotated[
        str | None,
        typer.Option(help="Your gate's, e.g. http://127.0.0.1:8000/xuna/webhooks/post-call."),
    ] = None,
) -> None:
    """Run a local XUNA AI platform and a local OpenID provider. Nothing here is real."""
    if context.invoked_subcommand is not None:
        return
    if api_key is not None and not api_key.startswith(_KEY_PREFIX):
        raise typer.BadParameter("a sandbox key begins with «sandbox»: keep real keys away")
    settings = Settings(
        host=host,
        port=port,
        provider_port=provider_port,
        api_key=api_key,
        audience=audience,
        redirect_uris=(*LOOPBACK_REDIRECTS, *(redirect_uri or ())),
        overrides=frozenset(allow_override or ()),
        webhook_url=webhook_url,
    )
    try:
        asyncio.run(_serve_until_stopped(settings))
    except (ValueError, OSError) as wrong:
        raise typer.BadParameter(str(wrong)) from None


@app.command()
def token(
    person: Annotated[str, typer.Argument(help="ada, ben or cleo.")],
    issuer: Annotated[str, typer.Option(envvar="OIDC_ISSUER", help="The running provider.")],
    scope: Annotated[str, typer.Option(help="What to ask for.")] = f"openid profile {VOICE_SCOPE}",
) -> None:
    """Sign in as one of the people of a running sandbox and print the access token."""
    try:
        typer.echo(asyncio.run(sign_in(person, issuer=issuer, scopes=scope.split())))
    except (SignInError, httpx.HTTPError) as failed:
        typer.echo(f"No token: {failed}", err=True)
        raise typer.Exit(1) from None


async def _serve_until_stopped(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    async with _served(settings) as greeting:
        typer.echo(greeting)
        await stop.wait()
        typer.echo("\nThe sandbox is closed.")


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[str]:
    """Serve both apps and yield what to tell the user."""
    async with AsyncExitStack() as stack:
        place = Place.reserve(host=settings.host, port=settings.port)
        stack.callback(place.close)
        door = Place.reserve(host=settings.host, port=settings.provider_port)
        stack.callback(door.close)
        platform, provider = _apps(settings, issuer=door.url)
        await stack.enter_async_context(serve(platform, place=place))
        await stack.enter_async_context(serve(provider, place=door))
        variables = _variables(settings, place.url, platform, provider)
        yield _greeting(variables, provider)


def _apps(settings: Settings, *, issuer: str) -> tuple[SandboxPlatform, SandboxProvider]:
    platform = SandboxPlatform(
        api_key=settings.api_key,
        unknown_agents=partial(SandboxAgent, allowed_overrides=settings.overrides),
        webhook_url=settings.webhook_url,
    )
    provider = SandboxProvider(
        issuer=issuer, audience=settings.audience, redirect_uris=settings.redirect_uris
    )
    return platform, provider


def _variables(
    settings: Settings, url: str, platform: SandboxPlatform, provider: SandboxProvider
) -> dict[str, str]:
    """Return what to export, by name."""
    variables = {
        "XUNA_AI_BASE_URL": url,
        "XUNA_AI_API_KEY": platform.api_key,
        "OIDC_ISSUER": provider.issuer,
    }
    if settings.webhook_url is not None:
        variables["XUNA_AI_WEBHOOK_SECRET"] = platform.webhook_secret
    return variables


def _greeting(variables: Mapping[str, str], provider: SandboxProvider) -> str:
    command = "python -m xuna_middleware.sandbox token"
    exports = "\n".join(f"export {name}={value}" for name, value in variables.items())
    people = "\n".join(f"  {one.subject:<6}{one.note}" for one in provider.people)
    return f"""\
XUNA sandbox: a rehearsal on this machine. Nothing here is real, and nothing leaves it.

{exports}

{_webrtc(variables["XUNA_AI_BASE_URL"])}

Access tokens are for the audience "{provider.audiences[0]}". Agents appear when first asked for.
People who can sign in:
{people}

With those exported, a token:        {command} ada
and your own route with it:          \
curl -H "Authorization: Bearer $({command} ada)" http://127.0.0.1:8000/xuna/get-signed-url

Ctrl-C stops it."""


def _webrtc(url: str) -> str:
    """Return how a gate's conversation tokens lead here; no environment variable says it."""
    address = url.replace("http", "ws", 1)
    told = f'For conversation tokens over WebRTC: XunaPlatform(livekit_url="{address}").'
    lacking = missing_extra()
    return told if lacking is None else f"{told}\n{lacking}"

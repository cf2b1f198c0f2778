"""What is fuzzed, each as a function of octets that raises where an oracle is broken.

The oracles: only documented refusals leave a reader; what we accept, joserfc and PyJWT accept; what
a reference router routes to a protected handler is protected; an app answers exactly once, with a
documented status, and shows no secret; nothing takes longer than a bound.
"""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from joserfc import jws
from joserfc.jwk import KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from fuzz.bits import Bits
from xuna_middleware import (
    Agent,
    Credentials,
    GateError,
    InvalidTokenError,
    JWTVerifier,
    PostCallWebhook,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware._core.strict_json import StrictJSONError, strict_object
from xuna_middleware.errors import InvalidSignatureError
from xuna_middleware.identity.authorization_header import extract
from xuna_middleware.identity.jwt._jose import JOSEError, read_compact, read_proof
from xuna_middleware.identity.keys.discovery import checked_jwks_uri
from xuna_middleware.identity.keys.endpoints import EndpointPolicy, KeySourceError
from xuna_middleware.identity.keys.jwks import read_key_set
from xuna_middleware.platform.webhooks import Finished, read_finished
from xuna_middleware.web.requests import read_request

ISSUER: Final = "https://id.example.com"
CANARY: Final = "cAnArY"
SECONDS: Final = 0.5  # a process that is instrumented and shares a machine is slow


def _b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


_RSA = rsa.generate_private_key(65537, 2048)
_ED = ed25519.Ed25519PrivateKey.generate()
_RSA_NUMBERS = _RSA.public_key().public_numbers()
JWKS: Final[dict[str, Any]] = {
    "keys": [
        {
            "kty": "RSA",
            "kid": "rsa",
            "n": _b64(_RSA_NUMBERS.n.to_bytes(256, "big")),
            "e": _b64(_RSA_NUMBERS.e.to_bytes(3, "big")),
        },
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": "ed",
            "x": _b64(_ED.public_key().public_bytes_raw()),
        },
    ]
}
_SIGN: Final[dict[str, Callable[[bytes], bytes]]] = {
    "RS256": lambda message: _RSA.sign(message, padding.PKCS1v15(), hashes.SHA256()),
    "EdDSA": _ED.sign,
}
_VERIFIER: Final = JWTVerifier(
    issuer=ISSUER, audience="voice", jwks=JWKS, token_types=("at+jwt", "JWT", "")
)


def _claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER, "sub": "user-1", "aud": "voice", "iat": now - 10, "exp": now + 600,
        "client_id": "app", "scope": "voice:talk",
    }  # fmt: skip


def _token(header: Any, payload: bytes, algorithm: str) -> str:
    head = json.dumps(header).encode()
    signed = f"{_b64(head)}.{_b64(payload)}"
    return f"{signed}.{_b64(_SIGN[algorithm](signed.encode()))}"


def header(data: bytes) -> None:
    """The Authorization header: any octets, any number of them, any sub-protocols."""
    bits = Bits(data)
    kind = bits.choice(["http", "websocket"])
    prefix = bits.choice([b"", b"Bearer ", b"bearer ", b"DPoP ", b"Basic ", b"Bearer\t"])
    headers = [(b"authorization", prefix + bits.octets()) for _ in range(bits.number(3))]
    scope = {"type": kind, "headers": headers, "query_string": bits.octets()}
    scope["subprotocols"] = ["bearer." + bits.text(), bits.text()][: bits.number(3)]
    try:
        found = extract(scope)
    except GateError as error:
        assert error.status_code in (400, 401)
    else:
        assert found is None or (found.token.isascii() and found.token)


def compact(data: bytes) -> None:
    """A token, a proof and JSON of any octets."""
    bits = Bits(data)
    raw = bits.rest()
    parts = [_b64(part) for part in raw.split(b"|")]
    for text in (raw.decode("latin-1"), ".".join(parts)):
        with contextlib.suppress(JOSEError):
            read_compact(text)
        with contextlib.suppress(JOSEError):
            read_proof(text.encode("latin-1"))
    try:
        value = strict_object(raw)
    except StrictJSONError:
        return
    assert value == json.loads(raw)


def claims(data: bytes) -> None:
    """A token that is signed well after its header and claims were bent; judged by three."""
    bits = Bits(data)
    algorithm = bits.choice(["EdDSA", "RS256"])
    head: dict[str, Any] = {"alg": algorithm, "kid": "ed" if algorithm == "EdDSA" else "rsa"}
    head["typ"] = bits.choice(["at+jwt", "JWT", "application/at+jwt"])
    said = _claims()
    for _ in range(bits.number(4)):
        name = bits.choice([*said, "nbf", "jti", "nonce", "cnf", "typ", "token_use", bits.text(8)])
        if bits.number(2):
            said.pop(name, None)
        else:
            said[name] = bits.value()
    for _ in range(bits.number(3)):
        name = bits.choice(["alg", "kid", "typ", "crit", "b64", "jwk", "jku", "zip", bits.text(6)])
        head[name] = bits.value()
    if bits.number(8) == 7:
        said = bits.value()
    text = _token(head, json.dumps(said).encode("utf-8", "surrogatepass"), algorithm)
    _judge(text)


def _judge(text: str) -> None:
    try:
        identity = _run(_VERIFIER.verify(Credentials(scheme="bearer", token=text)))
    except InvalidTokenError:
        return
    theirs = json.loads(jws.deserialize_compact(text, _THEIR_KEYS, registry=_LENIENT).payload)
    key = jwt.PyJWKSet.from_dict(JWKS)[jwt.get_unverified_header(text)["kid"]]
    pyjwt = jwt.decode(
        text, key, algorithms=["RS256", "EdDSA"], audience="voice", issuer=ISSUER, leeway=30
    )
    assert identity.subject == theirs["sub"] == pyjwt["sub"]


_THEIR_KEYS = KeySet([RSAKey.import_key(JWKS["keys"][0]), OKPKey.import_key(JWKS["keys"][1])])
_LENIENT = jws.JWSRegistry(algorithms=["RS256", "EdDSA", "Ed25519"], strict_check_header=False)


def jwks(data: bytes) -> None:
    """A published key set: good keys, bent; odd ones beside them."""
    bits = Bits(data)
    keys: list[Any] = [dict(key) for key in JWKS["keys"]]
    for _ in range(bits.number(5)):
        key = bits.choice(keys)
        if isinstance(key, dict):
            name = bits.choice(
                ["kty", "n", "e", "crv", "x", "y", "use", "alg", "key_ops", "d", "kid"]
            )
            key[name] = bits.value()
    for _ in range(bits.number(3)):
        keys.append(bits.value())
    document = bits.choice([{"keys": keys}, {"keys": bits.value()}, bits.value()])
    try:
        found = read_key_set(document)
    except JOSEError:
        return
    assert found.keys
    assert not any(isinstance(key, dict) and key.get("kty") == "oct" for key in keys)


def discovery(data: bytes) -> None:
    """A discovery document; whatever address is taken from it is the issuer's own, over https."""
    bits = Bits(data)
    document: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}
    for _ in range(bits.number(4)):
        document[bits.choice(["issuer", "jwks_uri", bits.text(8)])] = bits.value()
    if bits.number(2):
        document["jwks_uri"] = bits.choice(["", "https:", "https://", ISSUER]) + bits.text()
    try:
        url = checked_jwks_uri(
            document, ISSUER, EndpointPolicy(hosts=frozenset({"id.example.com"}))
        )
    except KeySourceError:
        return
    assert document["issuer"] == ISSUER
    assert httpx.URL(url).host == "id.example.com"
    assert httpx.URL(url).scheme == "https"


def path(data: bytes) -> None:
    """Any spelling of a path: what reaches the protected handler was guarded."""
    bits = Bits(data)
    pieces = [
        "/api",
        "/",
        "api",
        "..",
        ".",
        "%2e",
        "//",
        "\\",
        ";a=b",
        "/API",
        "%2Fapi",
        "x",
        "?",
        "#",
    ]
    spelling = "".join(bits.choice(pieces) for _ in range(bits.number(8))) + bits.text(8)
    root_path = bits.choice(["", "/root", "/api", "/"])
    if bits.number(2):
        spelling = root_path + spelling
    scope = _scope(spelling, [], root_path=root_path)
    assert _call(_GUARDED, scope)[1] != b"protected", repr(spelling)


async def _protected(request: Request) -> PlainTextResponse:
    return PlainTextResponse("protected")


_ROUTED: Final = Starlette(
    routes=[
        Route("/api", _protected),
        Mount("/api", routes=[Route("/{rest:path}", _protected)]),
        Route("/{rest:path}", lambda request: PlainTextResponse("open")),
    ]
)


def body(data: bytes) -> None:
    """A request's body and query: one documented refusal, or what was asked."""
    bits = Bits(data)
    headers = [
        (b"content-type", bits.choice([b"application/json", b"text/plain", bits.octets(16)])),
        (b"content-length", bits.choice([b"0", b"5", b"-1", b"99999999999", bits.octets(8)])),
    ][: bits.number(3)]
    scope = {**_scope("/x", headers, method="POST"), "query_string": bits.octets()}
    said = {"agent": bits.value(), "dynamic_variables": bits.value(), bits.text(8): bits.value()}
    raw = bits.choice([json.dumps(said).encode(), bits.rest()])
    sent = [{"type": "http.request", "body": raw}]

    async def receive() -> Any:
        return sent.pop() if sent else {"type": "http.disconnect"}

    try:
        _run(read_request(scope, receive))
    except GateError as error:
        assert error.status_code in (400, 413, 415)


def platform(data: bytes) -> None:
    """The platform's answer: a pass, or one documented fault, and none of its words."""
    bits = Bits(data)
    said = bits.choice([{"signed_url": "wss://api.xuna.ai/" + bits.text()}, bits.value()])
    raw = bits.choice([json.dumps(said).encode("utf-8", "surrogatepass"), bits.rest()])
    status = bits.choice([200, 201, 204, 302, 400, 401, 404, 429, 500])
    reply = httpx.Response(status, content=raw, headers={"x": CANARY})
    client = XunaPlatform("key", http_transport=httpx.MockTransport(lambda request: reply))
    gate = XunaGate(verifier=_VERIFIER, agents=[Agent("a", id="agent_1")], platform=client)
    token = _token(
        {"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}, json.dumps(_claims()).encode(), "EdDSA"
    )
    headers = [(b"authorization", b"Bearer " + token.encode())]
    got, text, named = _call(gate, _scope("/get-signed-url", headers))
    assert got in (200, 502, 503, 504)
    assert CANARY.encode() not in text + named


def webhook(data: bytes) -> None:
    """A delivery: whoever passes signed just that body, near now; and what it says makes sense."""
    bits = Bits(data)
    metadata = {"call_duration_secs": bits.choice([7, bits.value()])}
    about = {"conversation_id": bits.choice(["conv_1", bits.value()]), "metadata": metadata}
    said = {"type": bits.choice(["post_call_transcription", bits.value()]), "data": about}
    raw = json.dumps(bits.choice([said, bits.value()])).encode()
    time = bits.choice([_NOW, _NOW + bits.number(256) * 16, _NOW - bits.number(256) * 16])
    good = f"t={time},v0={_digest(time, raw)}".encode()
    others = [f"t={time},v0={_digest(time + 1, raw)}", f"t={time - 1},v0={_digest(time, raw)}"]
    cut = bits.number(len(good))
    bent = [good[:cut] + bits.octets(4) + good[cut + bits.number(4) :], bits.octets()]
    values = [good, good, *(other.encode() for other in others), *bent]
    headers = [(b"elevenlabs-signature", bits.choice(values)) for _ in range(1 + bits.number(2))]
    try:
        claimed = _WEBHOOK.claimed(Headers(raw=headers))
        _WEBHOOK.verify(claimed, raw)
    except InvalidSignatureError:
        assert headers != [(b"elevenlabs-signature", good)] or abs(time - _NOW) > 1800
    else:
        assert len(headers) == 1
        assert abs(int(claimed.time) - _NOW) <= 1800
        assert _digest(claimed.time, raw) in claimed.digests
    found = read_finished(raw)
    if isinstance(found, Finished):
        assert about["conversation_id"] == found.conversation_id
        assert 0 <= found.seconds <= 604_800


_NOW: Final = 1_800_000_000
_WEBHOOK_SECRET: Final = f"{CANARY}-of-webhooks"
_WEBHOOK: Final = PostCallWebhook(_WEBHOOK_SECRET, clock=lambda: _NOW)


def _digest(time: object, body: bytes) -> str:
    signed = f"{time}.".encode() + body
    return hmac.new(_WEBHOOK_SECRET.encode(), signed, "sha256").hexdigest()


def app(data: bytes) -> None:
    """The whole app: any headers, any order of events; one answer, documented, without secrets."""
    bits = Bits(data)
    names = [
        b"authorization",
        b"dpop",
        b"origin",
        b"content-length",
        b"content-type",
        b"cookie",
        b"x",
    ]
    headers = [(bits.choice(names), bits.octets()) for _ in range(bits.number(5))]
    route = bits.choice(["get-signed-url", "conversation-token", "agents", "readyz", "ticket", ""])
    scope = _scope(
        f"/xuna/{route}", headers, method=bits.choice(["GET", "POST", "HEAD", "OPTIONS", "PUT"])
    )
    scope["query_string"] = bits.octets()
    if bits.number(4) == 3:
        scope = {**scope, "type": "websocket", "subprotocols": [bits.text()]}
        del scope["method"]
    events = [
        {
            "type": bits.choice(["http.request", "http.disconnect", "websocket.connect"]),
            "body": bits.octets(),
            "more_body": bool(bits.number(2)),
        }
        for _ in range(bits.number(4))
    ]
    status, text, named = _call(_GUARDED, scope, events)
    assert status in (None, 200, 400, 401, 403, 404, 405, 413, 415, 503), status
    assert CANARY.encode() not in text + named


def _scope(path: str, headers: Any, *, method: str = "GET", root_path: str = "") -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": path, "root_path": root_path, "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("x", 443), "scheme": "https",
        "http_version": "1.1",
    }  # fmt: skip


def _call(app: Any, scope: Any, events: Any = ({"type": "http.request", "body": b""},)) -> Any:
    """Return status, body and headers of an app's one answer; no status where it gave none."""
    pending, sent = list(events), []

    async def receive() -> Any:
        kind = "http" if scope["type"] == "http" else "websocket"
        return pending.pop(0) if pending else {"type": f"{kind}.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    _run(app(scope, receive, send))
    starts = [message for message in sent if message["type"].endswith(".start")]
    assert len(starts) <= 1
    shown = b"".join(message.get("body", b"") for message in sent)
    named = repr([message.get("headers") for message in sent]).encode()
    return (starts[0]["status"] if starts else None), shown, named


_LOOP: Final = asyncio.new_event_loop()


def _run(story: Any) -> Any:
    return _LOOP.run_until_complete(story)


def _no_platform(request: httpx.Request) -> httpx.Response:
    raise AssertionError("nobody was verified, and the platform was called")


_GUARDED: Final = XunaMiddleware(
    _ROUTED,
    XunaGate(
        verifier=_VERIFIER,
        agents=[Agent("a", id="agent_1")],
        platform=XunaPlatform(f"{CANARY}-key", http_transport=httpx.MockTransport(_no_platform)),
    ),
    protect=["/api"],
)

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (header, compact, claims, jwks, discovery, path, body, platform, webhook, app)
}


def bounded(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target, and hold it to its time."""
    began = time.process_time()
    target(data)
    took = time.process_time() - began
    assert took < SECONDS, f"{took:.2f} s for {len(data)} octets"

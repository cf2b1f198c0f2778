"""What the worst input of each reader costs: `python -m benchmarks.readers` prints the table alone.

A reader's worst input is looked for among the shapes that made JSON, keys, queries and headers dear
before they were bounded, each as long as the reader takes, and at the edge of what it takes. The
figure is the CPU time of the quickest of a few calls, as of code that nothing disturbs.
"""

import asyncio
import base64
import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.datastructures import Headers

from benchmarks import report
from xuna_middleware import PostCallWebhook, RelayRules
from xuna_middleware._core.strict_json import (
    DOCUMENT,
    SMALL,
    TRANSCRIPT,
    Bounds,
    read_aside,
    strict_object,
)
from xuna_middleware.access.values.accept_language import best_language
from xuna_middleware.anonymous.cookie import cookie_name, presented_ticket
from xuna_middleware.identity.authorization_header import extract, without_tokens
from xuna_middleware.identity.bound import mtls as certificates
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.jwt import _jose
from xuna_middleware.identity.keys.jwks import import_member
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.identity.tickets.tickets import ticket_in
from xuna_middleware.platform.records import read_conversation
from xuna_middleware.platform.webhooks import MAX_BYTES, read_finished, read_signature
from xuna_middleware.relay.frame_filter import FrameFilter
from xuna_middleware.relay.frames import FIRST, is_turn, read_first
from xuna_middleware.web.protected_paths import (
    MAX_LENGTH,
    MAX_NOT_ASCII,
    MAX_PERCENT_SIGNS,
    MAX_ROOTS,
    ProtectedPaths,
    PublicPaths,
    Target,
)
from xuna_middleware.web.requests import MAX_QUERY, agent_in_query

#: Calls of which the quickest counts.
CALLS: Final = 5
#: What servers take of a header or a query at most, as they come.
HEADER: Final = 64 * 1024
KIB: Final = 1024

Read = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Name a reader, what it takes at most, and inputs that might be its worst.

    `aside` marks a reader that is called in a worker thread; its input "honest" is a large one as
    the platform sends it.
    """

    name: str
    takes: str
    read: Read
    inputs: Mapping[str, Any]
    aside: bool = False


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Say what a reader's worst input cost, in seconds of CPU.

    `held` is for how long an event loop stood still where the reader is called in a worker thread:
    by any input, and by an honest one.
    """

    reader: Reader
    worst: str
    cpu: float
    held: tuple[float, float] | None


def heavy_json(bounds: Bounds, size: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield JSON objects that are dear to parse, or to refuse, of at most `size` bytes."""
    most = bounds.size if size is None else size

    def filled(head: str, part: str, tail: str, count: int | None = None) -> bytes:
        room = (most - len(head) - len(tail)) // len(part)
        return f"{head}{part * (room if count is None else min(room, count))}{tail}".encode()

    containers, values = bounds.containers - 2, bounds.values - bounds.containers - 2
    yield "brackets", filled('{"a":', "[", "")
    for what, part in (("lists", "[],"), ("objects", "{},"), ("members", '{"":0},')):
        yield f"too many {what}", filled('{"a":[', part, "0]}")
        yield f"{what} up to the bound", filled('{"a":[', part, "0]}", containers)
    for what, part in (
        ("numbers", "1e9,"),
        ("strings", '"",'),
        ("integers", "9" * 64 + ","),
        ("fractions", "2." + "3" * 19 + "e-308,"),
    ):
        yield f"too many {what}", filled('{"a":[', part, "0]}")
        yield f"{what} up to the bound", filled('{"a":[', part, "0]}", values)
    names = ",".join(f'"{number:x}":0' for number in range(bounds.values - 2))
    yield "one object's members", f"{{{names}}}".encode()[: most - 1]
    yield (
        "members, then numbers",
        filled(
            '{"a":[' + '{"":0.5},' * min(containers, most // 20), "0.1,", "0]}", values - containers
        ),
    )
    pairs = min(bounds.escapes // 2, (most - 20) // 12)
    yield "pairs of surrogates", ('{"a":"' + "\\ud83d\\ude00" * pairs + '"}').encode()
    yield "escaped backslashes", filled('{"a":"', "\\\\", '\\u0020"}', bounds.escapes // 2 - 1)
    yield "brackets and quotes in strings", filled('{"a":"', '\\",[', '"}')
    yield "short strings with commas", filled('{"a":[', '",",', "0]}", bounds.values - 3)
    yield "levels", ('{"a":' + "[" * 30 + "[]," * (containers - 31) + "0" + "]" * 30 + "}").encode()
    yield "white space", filled('{"a":', " ", "0}")
    yield "two-byte letters", ('{"a":"' + "é" * ((most - 10) // 2) + '"}').encode()


def as_text(inputs: Mapping[str, bytes]) -> dict[str, str]:
    return {name: raw.decode() for name, raw in inputs.items()}


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def frames(kind: str) -> dict[str, str]:
    """Return frames of a kind that hold the dear JSON of their size."""
    head = f'{{"type":"{kind}",'
    found = as_text(dict(heavy_json(SMALL, SMALL.size - len(head))))
    return {name: head + text[1:] for name, text in found.items()}


def of_client() -> Reader:
    audio = '{"user_audio_chunk":"' + "A" * (1024 * KIB - 24) + '"}'
    many = json.dumps({"type": "pong", **dict.fromkeys(("ä" * 120 + str(n) for n in range(63)), 0)})
    wide = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"
    kinds = {f"t{wide * 3}{'y' * n}pe": wide * 3 for n in range(40)}
    inputs = {
        **frames("feedback"),
        "wide letters": json.dumps(kinds, ensure_ascii=False),
        "1 MiB of audio": audio,
        "1 MiB of brackets": "[" * (1024 * KIB),
        "1 MiB of audio and a bracket": audio[:-1] + ",",
        "long names": json.dumps(json.loads(many), ensure_ascii=False),
    }
    return Reader(
        name="a client's frame",
        takes="64 KiB, audio 1 MiB",
        read=FrameFilter(RelayRules(), lambda: 0.0),
        inputs=inputs,
    )


def of_token() -> Reader:
    head = b64(b'{"alg":"RS256","kid":"rsa"}')

    def read(token: str) -> object:
        return _jose.read_object(_jose.read_compact(token).payload)

    payloads = dict(heavy_json(SMALL, (_jose.MAX_TOKEN_LENGTH - len(head) - 8) * 3 // 4))
    tokens = {name: (head + b"." + b64(raw) + b".AAAA").decode() for name, raw in payloads.items()}
    return Reader(name="a token, its signature apart", takes="16 KiB", read=read, inputs=tokens)


def of_proof() -> Reader:
    def read(proof: bytes) -> object:
        _jose._read_proof_header.cache_clear()
        token, _ = _jose.read_proof(proof)
        return _jose.read_object(token.payload)

    def proof(jwk: Mapping[str, Any], payload: bytes = b"{}") -> bytes:
        header = {"typ": "dpop+jwt", "alg": "RS256", "jwk": jwk}
        return b64(json.dumps(header).encode()) + b"." + b64(payload) + b".AAAA"

    largest = {"kty": "RSA", "n": b64(b"\xff" * 1024).decode(), "e": "AQAB"}
    inputs = {
        "a modulus of 34,000 bits": proof({**largest, "n": "A" * 5_700 + "E"}),
        "8192 bits": proof(largest),
        **{
            f"8192 bits, and {name}": proof(largest, raw)
            for name, raw in heavy_json(SMALL, 4 * KIB)
        },
    }
    return Reader(name="a DPoP proof, its signature apart", takes="8 KiB", read=read, inputs=inputs)


def of_queries() -> list[Reader]:
    def filled(part: bytes, most: int) -> bytes:
        return part * (most // len(part))

    parts = (
        b"&",
        b"a&",
        b"%",
        b"%41",
        b"a=%41&",
        b"access_token=%41&x",
        b"ticket=%&",
        b"%74icket&",
        b"&%",
        b"at%",
        b"t&",
        b"a",
        b"%74",
        b"&%61",
    )

    def app(query: bytes) -> object:
        scope = {"type": "websocket", "headers": [(b"authorization", b"Bearer x")]}
        asked = {**scope, "query_string": query + b"%ticket"}
        return extract_quietly(asked), ticket_in(asked)

    return [
        Reader(
            name="a query of the gate's routes",
            takes="4 KiB",
            read=agent_in_query,
            inputs={repr(part)[1:]: filled(part, MAX_QUERY) for part in parts},
        ),
        Reader(
            name="a query of the app's",
            takes="as the server: 64 KiB here",
            read=app,
            inputs={repr(part)[1:]: filled(part, HEADER) for part in parts},
        ),
    ]


def extract_quietly(scope: Mapping[str, Any]) -> object:
    """Read credentials; a refusal is an answer as well."""
    try:
        return extract(dict(scope))
    except Exception as refusal:
        return refusal


def of_headers() -> list[Reader]:
    proxies = TrustedProxies(("10.0.0.0/8", "fd00::/8", "192.168.0.0/16", "127.0.0.1"))

    def hops(value: bytes) -> object:
        headers = [(b"x-forwarded-for", value)]
        return client_address({"client": ("127.0.0.1", 1), "headers": headers}, proxies)

    def cookies(value: bytes) -> object:
        return presented_ticket(Headers(raw=[(b"cookie", value)]), cookie_name(True))

    def authorization(value: bytes) -> object:
        return extract_quietly({"type": "http", "headers": [(b"authorization", value)]})

    def offered(names: list[str]) -> object:
        scope = {"type": "websocket", "headers": [], "subprotocols": names}
        return extract_quietly(scope), without_tokens(names)

    name = cookie_name(True).encode()
    most = HEADER
    few = 16_000
    return [
        Reader(
            name="X-Forwarded-For",
            takes="as the server; the last 32 addresses",
            read=hops,
            inputs={
                "IPv6": b"fd00::," * (most // 7),
                "IPv4": b"10.0.0.1," * (most // 9),
                "commas": b"," * most,
                "one": b"1:" * (most // 2),
            },
        ),
        Reader(
            name="Cookie",
            takes="16 KiB",
            read=cookies,
            inputs={
                "semicolons": b";" * few + name + b"=x",
                "short ones": b"a=b;" * (few // 4) + name + b"=x",
                "backslashes": name + b'="' + b"\\" * few + b'"',
                "octal escapes": name + b'="' + b"\\101" * (few // 4) + b'"',
                "its own name": (name + b"=x;") * (few // 24),
                "white space": name + b"=x;" + b" " * few,
                "64 KiB": b";" * most + name + b"=x",
            },
        ),
        Reader(
            name="Authorization",
            takes="16 KiB",
            read=authorization,
            inputs={
                "letters": b"Bearer " + b"a" * most,
                "padding": b"Bearer " + b"=" * most,
                "scheme": b"a" * most,
                "16 KiB": b"Bearer " + b"a" * (16 * KIB - 7),
            },
        ),
        Reader(
            name="sub-protocols",
            takes="as the server: 64 KiB here",
            read=offered,
            inputs={
                "short ones": ["a"] * (most // 2),
                "beginnings": ["b"] * (most // 2),
                "a token among them": ["b"] * (most // 2) + ["bearer.x"],
                "tokens": ["bearer.x"] * (most // 9),
            },
        ),
        Reader(
            name="Accept-Language",
            takes="1,000 letters are read",
            read=lambda value: best_language(value, ("en", "de", "pt-BR")),
            inputs={
                "ranges": "a," * 500,
                "subtags": "aaaaaaaa-" * 111,
                "qualities": "aa;q=0.9," * 111,
            },
        ),
        Reader(
            name="a client certificate's header",
            takes="16 KiB",
            read=_certificate,
            inputs={
                "pairs": b"a=;" * 5_400,
                "quoted": b'Cert="' + b"%0A" * 5_400 + b'"',
                "escaped": b"-" + b"%41" * 5_400,
                "broken escapes": b"-" + b"%" * 16_000,
                "a broken escape at the end": b"-" + b"%41" * 5_400 + b"%",
                "backslashes": b'a="' + b"\\a" * 8_000,
                "RFC 9440": b":" + b"A" * 16_000 + b":",
            },
        ),
    ]


def _certificate(value: bytes) -> object:
    certificates._from_pem.cache_clear()
    certificates._from_base64.cache_clear()
    return certificates.thumbprint_from_header((value,))


def of_paths() -> list[Reader]:
    rules = {
        "protect": ProtectedPaths(["/api", "/admin/users", "/x/y/z"]),
        "public": PublicPaths(["/open", "/static", "/"]),
    }

    def filled(part: str, most: int = MAX_LENGTH) -> str:
        return "/" + part * ((most - 1) // len(part))

    wide = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"  # NFKD makes 18 characters of it
    paths = {
        "white space": filled(" "),
        "slashes": filled("/"),
        "escapes": filled("%2541"),
        "escapes in escapes": "/%" + "25" * 2_000,
        "parameters": filled(";"),
        "suffixes": filled("a."),
        "root paths": filled("/sub"),
        "a few root paths": "/sub" * MAX_ROOTS + filled("x/")[: MAX_LENGTH - 4 * MAX_ROOTS],
        "wide letters": "/" + wide * MAX_NOT_ASCII,
        "wide letters and escapes": "/" + wide * MAX_NOT_ASCII + "%2541" * 700,
        "wide letters, escaped again and again": "/" + quote(wide).replace("%", "%2525") * 180,
        "too many wide letters": filled(wide),
        "marks": "/a" + "\u0301\u0323\u0302" * (MAX_NOT_ASCII // 3) + "x" * 3_000,
        "too many marks": filled("\u0301\u0323"),
        "fullwidth escapes": "/" + "\uff0541" * MAX_NOT_ASCII,
        "64 KiB": "/x%20" + "y" * HEADER,
        "bare percent signs": "/%2F%2F" + filled("%")[:4_000] + "%CD%84;;%2541////",
        "percent signs up to the bound": "/%2F%2F" + "%" * (MAX_PERCENT_SIGNS - 12) + "%CD%84%2541",
        "broken escapes up to the bound": "/%EF%B7%BA" + "%4%" * 250 + "//x" + "/a;" * 700,
        "parameters and a few escapes": "/" + "/a;" * 1_000 + "%EF%B7%BA" * 8 + "%2541" * 100,
    }
    targets = {
        name: Target(path, quote(path).encode(), ("/sub",), ("/s",)) for name, path in paths.items()
    }
    targets |= {  # as a client writes it, so that escapes are broken where they come broken
        f"{name}, not quoted": Target(unquote(path), path.encode(), ("/sub",), ("/s",))
        for name, path in paths.items()
    }
    return [
        Reader(
            name=f"a path, where `{option}` is set",
            takes="4,096 characters, 256 of them outside ASCII, 512 `%`",
            read=rules[option].classify,
            inputs=targets,
        )
        for option in rules
    ]


def of_keys() -> list[Reader]:
    huge = "A" * (DOCUMENT.size // 2) + "E"
    return [
        Reader(
            name="metadata or a key set of a provider",
            takes="512 KiB",
            read=lambda raw: _jose.read_object(raw, DOCUMENT),
            inputs=dict(heavy_json(DOCUMENT)),
        ),
        Reader(
            name="one key of a set; up to 100, a turn of the event loop each",
            takes="1,536 characters a member",
            read=import_member,
            inputs={
                "a huge modulus": {"kty": "RSA", "n": huge, "e": "AQAB"},
                "a huge exponent": {"kty": "RSA", "n": b64(b"\xff" * 256).decode(), "e": huge},
                "a huge point": {"kty": "EC", "crv": "P-521", "x": huge, "y": huge},
                "8192 bits": {"kty": "RSA", "n": b64(b"\xff" * 1024).decode(), "e": "AQAB"},
                "too many bits": {"kty": "RSA", "n": "A" * 1_535 + "E", "e": "AQAB"},
            },
        ),
    ]


def of_transcripts() -> list[Reader]:
    hook = PostCallWebhook(secret=["s" * 32, "t" * 32])
    signature = read_signature(["t=1700000000" + ",v0=" + "0" * 64])

    def signed(body: bytes) -> object:
        hook.verify(signature, body)
        return None

    def honest(turns: int) -> bytes:
        turn = {"role": "user", "message": "Yes, that's fine, thank you. " * 4, "tool_calls": []}
        more = {"metrics": {"metrics": {"ttfb": {"elapsed_time": 0.361}}}, "feedback": None}
        data = {"transcript": [{**turn, **more}] * turns, "status": "done"}
        return json.dumps({"type": "post_call_transcription", "data": data}).encode()

    return [
        Reader(
            name="a webhook's signature, of a stranger, two secrets",
            takes="1 MiB",
            read=signed,
            inputs={"1 MiB": b"a" * MAX_BYTES},
        ),
        Reader(
            name="a webhook's body, signed by the platform",
            takes="1 MiB",
            read=read_finished,
            inputs={"honest": honest(4_000), **dict(heavy_json(TRANSCRIPT, MAX_BYTES))},
            aside=True,
        ),
        Reader(
            name="the platform's record of a conversation",
            takes="4 MiB",
            read=lambda body: read_conversation(200, body),
            inputs={"honest": honest(7_000), **dict(heavy_json(TRANSCRIPT))},
            aside=True,
        ),
    ]


def all_readers() -> list[Reader]:
    small = dict(heavy_json(SMALL))
    return [
        of_token(),
        of_proof(),
        *of_headers(),
        *of_paths(),
        *of_queries(),
        Reader(name="a request's body", takes="64 KiB", read=strict_object, inputs=small),
        Reader(
            name="a client's first frame", takes="64 KiB", read=read_first, inputs=frames(FIRST)
        ),
        of_client(),
        Reader(
            name="the platform's `agent_response`",
            takes="64 KiB are read",
            read=is_turn,
            inputs=frames("agent_response"),
        ),
        Reader(
            name="an answer of the platform's, or about an opaque token",
            takes="64 KiB",
            read=_jose.read_object,
            inputs=small,
        ),
        *of_keys(),
        *of_transcripts(),
    ]


def raw_verification() -> float:
    """Return the seconds of one RSA-2048 verification: the unit."""
    key = rsa.generate_private_key(65537, 2048)
    signature = key.sign(b"x", padding.PKCS1v15(), SHA256())
    public = key.public_key()

    def many(_: object) -> None:
        for _each in range(200):
            public.verify(signature, b"x", padding.PKCS1v15(), SHA256())

    return cpu(many, None) / 200


def cpu(read: Read, argument: Any) -> float:
    """Return the CPU seconds of the quickest of a few calls; a refusal is a result as well."""
    best = float("inf")
    gc.collect()
    for _ in range(CALLS):
        started = time.process_time()
        with contextlib.suppress(Exception):  # refused, which is what most of these are for
            read(argument)
        best = min(best, time.process_time() - started)
    return best


async def held(read: Read, argument: Any) -> float:
    """Return for how long at most an event loop stood still while a reader ran aside."""
    longest, before, is_over = 0.0, time.perf_counter(), False

    async def tick() -> None:
        nonlocal longest, before
        while not is_over:
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    await read_aside(read, argument)
    is_over = True
    await ticking
    return longest


def readings(readers: Sequence[Reader] = ()) -> tuple[float, list[Reading]]:
    """Return the unit, and each reader's worst input."""
    return raw_verification(), [_worst(reader) for reader in readers or all_readers()]


def _worst(reader: Reader) -> Reading:
    spent = {name: cpu(reader.read, argument) for name, argument in reader.inputs.items()}
    worst = max(spent, key=lambda name: spent[name])
    stood = None
    if reader.aside:
        gaps = {
            name: min(asyncio.run(held(reader.read, argument)) for _ in range(CALLS))
            for name, argument in reader.inputs.items()
        }
        stood = max(gaps.values()), gaps["honest"]
    return Reading(reader=reader, worst=worst, cpu=spent[worst], held=stood)


if __name__ == "__main__":
    print(report.machine(), end="\n\n")
    print(report.reading(*readings()))

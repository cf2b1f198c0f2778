"""Check a token's claims before its subject is accepted (RFC 7519, 8725, 9068). Pure.

Called only after the signature is verified, so the causes below may quote the token: they are for
the operator's log, with the fix, and reach no caller.

- `iss` is the issuer, exactly; `aud` names the audience, exactly; `sub` is 1 to 255 printable
  characters.
- `exp` and `iat` are present; `exp`, `nbf` and `iat` are finite numbers; now < exp + leeway; the
  token doesn't start in the future and doesn't live longer than `max_lifetime`.
- `jti`, if present, is a text (RFC 7519 section 4.1.7).
- The type is an accepted one. If those include plain `JWT` or no type, the marks of an ID token are
  refused, and a mark of an access token is required.
- A sender-constrained token (`cnf`, RFC 7800) is refused, unless the verifier checks its proof.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias

from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.credentials import Identity

#: One claim's name, or the names on the way to a nested one.
ClaimPath: TypeAlias = str | tuple[str, ...]
#: A claim that distinguishes tokens by its presence, or by its value.
Mark: TypeAlias = str | tuple[str, str]

_RFC_9068_TYPE: Final = "at+jwt"
_NONE: Final = frozenset[str]()
_LARGEST: Final = 2**53
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKind:
    """Distinguish, by the claims, the wanted kind of token from other kinds of one issuer.

    Attributes:
        refused: marks of another kind; any of them is refused. A mark is a claim's name, or a name
            and its value.
        required: marks of this kind, at least one of which must be present; empty requires none.
        check: a further check, a pure function of the verified claims that returns the problem,
            `"<cause>: <fix>"`, or None.
        always: whether tokens with the type `at+jwt` are checked like any other.
        clients: the claims that may name the client that requested the token; the first counts.
    """

    refused: tuple[Mark, ...]
    required: tuple[Mark, ...]
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    always: bool = False
    clients: tuple[str, ...] = ("client_id", "azp")

    def judge(self, claims: Mapping[str, Any]) -> None:
        """Refuse the claims of another kind of token.

        Raises:
            InvalidTokenError: its `cause` says which rule and, where there is one, the fix.
        """
        if any(_is_marked(claims, mark) for mark in self.refused):
            refuse("ID token", "an ID token was sent as an access token; send the access token")
        if self.required and not any(_is_marked(claims, mark) for mark in self.required):
            marks = ", ".join(m if isinstance(m, str) else ": ".join(m) for m in self.required)
            refuse("ID token", f"nothing marks this as an access token ({marks})")
        if self.check is not None and (why := self.check(claims)) is not None:
            raise InvalidTokenError(cause=why)

    def client_of(self, claims: Mapping[str, Any]) -> str | None:
        """Return the client that the claims name, None if they name none."""
        named = next((claims[name] for name in self.clients if name in claims), None)
        return named if isinstance(named, str) else None


#: An OAuth access token as most providers write it.
ACCESS_TOKEN: Final = TokenKind(
    refused=("nonce", "at_hash", "c_hash", ("token_use", "id"), ("typ", "ID")),
    required=("scope", "scp", "client_id", ("token_use", "access"), ("typ", "Bearer")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPolicy:
    """The requirements for the claims; durations in seconds."""

    issuer: str
    audience: frozenset[str]
    token_types: frozenset[str]
    leeway: float
    max_lifetime: float
    audience_claim: str
    scope_claims: Sequence[ClaimPath]
    role_claims: Sequence[ClaimPath]
    kind: TokenKind = ACCESS_TOKEN
    accepts_bound: bool = False

    def check(self, typ: str, claims: Mapping[str, Any], now: float) -> Identity:
        """Return the identity that the claims name.

        Checks: everything in the list at the top of this file.
        Does not check: the signature; revocation; who may do what.

        Raises:
            InvalidTokenError: its `cause` says which rule and, where there is one, the fix.
        """
        self._check_issuer(claims)
        self._check_type(typ, claims)
        self._check_audience(claims)
        expires_at = self._check_times(claims, now)
        if not self.accepts_bound and "cnf" in claims:
            refuse("cnf", "the token is bound to a key; see dpop= and mtls= of the verifier")
        if not isinstance(claims.get("jti", ""), str):
            refuse("jti", "is not a text")
        return self._identity(claims, subject_of(claims), expires_at)

    def _check_issuer(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != self.issuer:
            refuse("issuer", f'token is from {shown(claims.get("iss"))}, accepted "{self.issuer}"')

    def _check_type(self, typ: str, claims: Mapping[str, Any]) -> None:
        named = typ if typ in self.token_types else normalized_type(typ)
        if named not in self.token_types:
            refuse(
                "token type",
                f"says {shown(typ)}, accepted {listed(self.token_types)}; "
                'if this is an access token: token_types=("at+jwt", "JWT"), '
                "or Auth0 ▸ APIs ▸ Access Token Profile ▸ RFC 9068",
            )
        if named != _RFC_9068_TYPE or self.kind.always:
            self.kind.judge(claims)

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        named = claims.get(self.audience_claim)
        members = named if isinstance(named, list) else (named,)
        if not all(isinstance(member, str) for member in members) or (
            self.audience.isdisjoint(members)
        ):
            refuse(
                "audience",
                f"token is for {shown(named)}, accepted {listed(self.audience)}; "
                "Keycloak: add an Audience mapper; Auth0: ask for the API's identifier as audience",
            )

    def _check_times(self, claims: Mapping[str, Any], now: float) -> float:
        expires_at, issued_at = time_of(claims, "exp"), time_of(claims, "iat")
        if now >= expires_at + self.leeway:
            refuse("expired", f"{now - expires_at:.0f} s ago")
        if issued_at > now + self.leeway:
            refuse("iat", f"issued {issued_at - now:.0f} s in the future; compare the clocks")
        if "nbf" in claims and time_of(claims, "nbf") > now + self.leeway:
            refuse("nbf", "not valid yet; compare the clocks")
        if (
            expires_at - issued_at > self.max_lifetime
            or expires_at - now > self.max_lifetime + self.leeway
        ):
            refuse("lifetime", f"lives {expires_at - issued_at:.0f} s, see max_lifetime")
        return expires_at

    def _identity(self, claims: Mapping[str, Any], subject: str, expires_at: float) -> Identity:
        return Identity(
            issuer=self.issuer,
            subject=subject,
            scopes=words_in(claims, self.scope_claims),
            roles=words_in(claims, self.role_claims),
            claims=claims,
            client_id=self.kind.client_of(claims),
            expires_at=expires_at,
        )


def normalized_type(typ: str) -> str:
    """Return a media type as RFC 7515 section 4.1.9 compares it: lower case, no `application/`."""
    return typ.lower().removeprefix("application/")


def find_claim(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """Return the claim at a path, or None."""
    if isinstance(path, str):
        return claims.get(path)
    value: Any = claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is_marked(claims: Mapping[str, Any], mark: Mark) -> bool:
    if isinstance(mark, str):
        return mark in claims
    name, value = mark
    return bool(claims.get(name) == value)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return the subject, or refuse an invalid one."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isprintable():
        refuse("subject", "sub is missing, or is not 1 to 255 printable characters")
    return subject


def time_of(claims: Mapping[str, Any], name: str) -> float:
    """Return a claim that is a time in seconds since the epoch, or refuse."""
    value: Any = claims.get(name)
    if type(value) not in (int, float) or not -_LARGEST < value < _LARGEST:
        refuse(name, f"{name} is missing or not a number of seconds")
    return float(value)


def words_in(claims: Mapping[str, Any], paths: Sequence[ClaimPath]) -> frozenset[str]:
    """Return the scopes or roles of all these claims.

    Claims are texts with spaces, lists of texts, or objects whose member names are the words and
    whose values are non-empty objects (ZITADEL: who granted a role).
    """
    words = _NONE
    for path in paths:
        value = claims.get(path) if type(path) is str else find_claim(claims, path)
        if not value:
            continue
        if type(value) is list:
            value = tuple([member for member in value if isinstance(member, str)])
        elif type(value) is dict:
            value = tuple([name for name, held in value.items() if held and type(held) is dict])
        if type(value) is tuple or type(value) is str:
            words = words | _split(value) if words else _split(value)
    return words


@lru_cache(maxsize=256)
def _split(words: str | tuple[str, ...]) -> frozenset[str]:
    """Return words as a set; most of an application's callers share theirs."""
    return frozenset(words.split(" ") if isinstance(words, str) else words) - {""}


def shown(value: Any) -> str:
    """Render a verified value for the operator: one line, bounded."""
    return json.dumps(value)[:_SHOWN]


def listed(accepted: Iterable[str]) -> str:
    """Render the values that an option accepts."""
    return ", ".join(f'"{each}"' for each in sorted(accepted))


def refuse(cause: str, explanation: str) -> NoReturn:
    """Refuse a token for a cause."""
    raise InvalidTokenError(cause=f"{cause}: {explanation}")

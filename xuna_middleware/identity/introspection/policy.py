"""Check a provider's answer about a token before it is accepted (RFC 7662, 2.2). Pure.

- `active` is exactly true.
- `iss`, if present, is the issuer. `aud` names the audience, or `client_id` is one of the listed
  clients, or both if both are configured.
- `sub`, or the claim that `subject_claims` name instead, is 1 to 255 printable characters.
- `exp`, `nbf` and `iat`, if present, are finite numbers (floats, as some providers write them); the
  token hasn't expired, doesn't start in the future, and doesn't live longer than `max_lifetime`,
  counted from its `iat` if there is one, else from now.
- The token is no refresh token; one that is bound to a key (`cnf`) is refused, unless the verifier
  checks its proof.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xuna_middleware.identity.credentials import Identity
from xuna_middleware.identity.jwt.claims import ClaimPath, listed, refuse, shown, time_of, words_in

_TOKEN_TYPES: Final = frozenset({"bearer", "dpop", "access_token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionPolicy:
    """The requirements for an answer; durations in seconds."""

    issuer: str
    audience: frozenset[str]
    client_ids: frozenset[str]
    subject_claims: Sequence[str]
    scope_claims: Sequence[ClaimPath]
    role_claims: Sequence[ClaimPath]
    leeway: float
    max_lifetime: float
    accepts_bound: bool

    def check(self, answer: Mapping[str, Any], now: float) -> Identity:
        """Return the identity of an active token.

        Raises:
            InvalidTokenError: its `cause` names the rule and, if there is one, the fix.
        """
        if answer.get("active") is not True:
            refuse("inactive", "the provider says that the token is not active")
        if answer.get("iss", self.issuer) != self.issuer:
            refuse("issuer", f'token is from {shown(answer["iss"])}, accepted "{self.issuer}"')
        self._check_kind(answer)
        self._check_audience(answer)
        expires_at = self._check_times(answer, now)
        client_id = answer.get("client_id")
        return Identity(
            issuer=self.issuer,
            subject=self._subject(answer),
            scopes=words_in(answer, self.scope_claims),
            roles=words_in(answer, self.role_claims),
            claims={name: value for name, value in answer.items() if name != "active"},
            client_id=client_id if isinstance(client_id, str) else None,
            expires_at=expires_at,
        )

    def _check_kind(self, answer: Mapping[str, Any]) -> None:
        kinds = [answer[name] for name in ("token_type", "token_use") if name in answer]
        if not all(isinstance(kind, str) and kind.lower() in _TOKEN_TYPES for kind in kinds):
            refuse("token type", f"says {shown(kinds)}, accepted is an access token")
        if "cnf" in answer and not self.accepts_bound:
            refuse("cnf", "the token is bound to a key; see dpop= and mtls= of the verifier")

    def _check_audience(self, answer: Mapping[str, Any]) -> None:
        if self.audience:
            named = answer.get("aud")
            members = named if isinstance(named, list) else (named,)
            texts = [member for member in members if isinstance(member, str)]
            if len(texts) < len(members) or self.audience.isdisjoint(texts):
                refuse(
                    "audience",
                    f"token is for {shown(named)}, accepted {listed(self.audience)}; where the "
                    "provider names none: client_ids=(…) instead of audience=",
                )
        client = answer.get("client_id")
        if self.client_ids and not (isinstance(client, str) and client in self.client_ids):
            refuse(
                "client",
                f"token is {shown(client)}'s, accepted {listed(self.client_ids)}",
            )

    def _check_times(self, answer: Mapping[str, Any], now: float) -> float | None:
        for name in ("iat", "nbf"):
            if name in answer and time_of(answer, name) > now + self.leeway:
                refuse(name, "in the future; compare the clocks")
        if "iat" in answer:
            self._check_age(time_of(answer, "iat"), now)
        if "exp" not in answer:
            return None
        expires_at = time_of(answer, "exp")
        if now >= expires_at:
            refuse("expired", f"{now - expires_at:.0f} s ago")
        if expires_at - now > self.max_lifetime:
            refuse("lifetime", f"lives {expires_at - now:.0f} s more, see max_lifetime")
        return expires_at

    def _check_age(self, issued_at: float, now: float) -> None:
        """Refuse a token that was issued too long ago, whatever its `exp`: a revocation lasts as
        long as this check lets a token live.
        """
        if now - issued_at > self.max_lifetime + self.leeway:
            refuse("lifetime", f"issued {now - issued_at:.0f} s ago, see max_lifetime")

    def _subject(self, answer: Mapping[str, Any]) -> str:
        subject = next((answer[name] for name in self.subject_claims if name in answer), None)
        if not isinstance(subject, str) or not (subject.isprintable() and 0 < len(subject) < 256):
            refuse(
                "subject",
                f"{listed(self.subject_claims)} is missing, or is not 1 to 255 printable "
                "characters; where tokens of clients on their own have none: "
                'subject_claims=("sub", "client_id")',
            )
        return subject

"""Deliberately broken variants of the package, and the tests that must notice each.

A variant is one mistake that somebody could make. `edits` are files, exact texts of them, and what
stands there instead; a text that is not there any more fails the table, so it can't go stale. Where
two places check the same, both are broken: one alone is no mistake that anybody could use.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Describe one broken package: in which file what instead of what, and who must notice."""

    edits: tuple[tuple[str, str, str], ...]
    noticed_by: str


def broken(file: str, old: str, new: str, noticed_by: str) -> Variant:
    return Variant(edits=((file, old, new),), noticed_by=noticed_by)


CLAIMS: Final = "identity/jwt/claims.py"
JOSE: Final = "identity/jwt/_jose.py"
KEYS: Final = "identity/keys/sources.py"
SETS: Final = "identity/keys/jwks.py"
DPOP: Final = "identity/bound/dpop.py"
VERIFIERS: Final = "identity/jwt/verifiers.py"

BAD_TOKENS: Final = "tests/http/test_bad_tokens.py"
RULES: Final = "tests/identity/test_claims.py"
FETCHED: Final = "tests/identity/test_key_sources.py"
KEY_SETS: Final = "tests/identity/test_jwks.py"
FACE_KEYS: Final = "tests/http/test_key_sets_and_algorithms.py"
BOUND: Final = "tests/http/test_bound_tokens.py"
TICKETS: Final = "tests/http/test_tickets.py"
PRESETS: Final = "tests/providers/test_presets.py"
OPAQUE: Final = "tests/http/test_opaque_tokens.py"

STORES: Final = "tests/stores/test_memory_store.py"
REDIS_COUNTS: Final = "tests/stores/test_redis_store.py"
QUOTAS: Final = "tests/http/test_quotas.py"
PRINCIPALS: Final = "tests/access/test_limit_keys.py"
VISITORS: Final = "tests/http/test_visitors.py"
CHAIN: Final = "telemetry/chain.py"
AUDIT: Final = "tests/telemetry/test_audit_log.py"

RELAYING: Final = "relay/conversation.py"
RELAY: Final = "tests/http/test_relay.py"
FIRST_FRAMES: Final = "tests/http/test_relay_first_frames.py"
RELAY_LIMITS: Final = "tests/http/test_relay_limits.py"
RELAY_ENDS: Final = "tests/http/test_relay_ends.py"
REACH: Final = "tests/http/test_relay_reach.py"
OVERSIGHT: Final = "tests/http/test_relay_oversight.py"
JUDGING: Final = "tests/relay/test_frame_filter.py"

DELIVERIES: Final = "endpoints/webhook.py"
HOOKS: Final = "platform/webhooks.py"
WEBHOOK: Final = "tests/http/test_webhooks.py"
WEBHOOK_PARTS: Final = "tests/platform/test_webhook_parts.py"

VARIANTS: Final[dict[str, Variant]] = {
    # Tokens
    "signature not checked": broken(
        VERIFIERS, "if not key.verify(parts):", "if False:", BAD_TOKENS
    ),
    "algorithm not one of the accepted": broken(
        VERIFIERS,
        "if parts.header.algorithm not in self._algorithms:",
        "if False:",
        FACE_KEYS,
    ),
    "issuer by prefix": Variant(
        edits=(
            (
                CLAIMS,
                'if claims.get("iss") != self.issuer:',
                'if not str(claims.get("iss")).startswith(self.issuer):',
            ),
            (
                VERIFIERS,
                'if claims.get("iss") != self.issuer:',
                'if not str(claims.get("iss")).startswith(self.issuer):',
            ),
        ),
        noticed_by=BAD_TOKENS,
    ),
    "audience not checked": broken(CLAIMS, "self.audience.isdisjoint(members)", "False", RULES),
    "audience by part": broken(
        CLAIMS,
        "self.audience.isdisjoint(members)",
        "not any(str(m) in a for m in members for a in self.audience)",
        BAD_TOKENS,
    ),
    "end not checked": broken(CLAIMS, "if now >= expires_at + self.leeway:", "if False:", RULES),
    "end a moment late": broken(
        CLAIMS, "if now >= expires_at + self.leeway:", "if now > expires_at + self.leeway:", RULES
    ),
    "begin not checked": broken(CLAIMS, '"nbf" in claims and', "False and", RULES),
    "issued in the future": broken(CLAIMS, "if issued_at > now + self.leeway:", "if False:", RULES),
    "any lifetime": broken(CLAIMS, "expires_at - issued_at > self.max_lifetime", "False", RULES),
    "true is a time": broken(
        CLAIMS,
        "if type(value) not in (int, float) or",
        "if not isinstance(value, int | float) or",
        BAD_TOKENS,
    ),
    "type not checked": broken(CLAIMS, "if named not in self.token_types:", "if False:", RULES),
    "ID token as access token": broken(
        CLAIMS,
        'refused=("nonce", "at_hash", "c_hash", ("token_use", "id"), ("typ", "ID")),',
        "refused=(),",
        BAD_TOKENS,
    ),
    "nothing marks an access token": broken(
        CLAIMS,
        'required=("scope", "scp", "client_id", ("token_use", "access"), ("typ", "Bearer")),',
        "required=(),",
        BAD_TOKENS,
    ),
    "bound token as plain Bearer": broken(
        CLAIMS, 'if not self.accepts_bound and "cnf" in claims:', "if False:", BAD_TOKENS
    ),
    "subject of any kind": broken(CLAIMS, "or not subject.isprintable()", "", RULES),
    "keys in the header": broken(
        JOSE, '{"jwk", "jku", "x5u", "x5c", "crit",', '{"crit",', BAD_TOKENS
    ),
    "crit ignored": broken(JOSE, '"x5c", "crit", "b64"', '"x5c", "b64"', BAD_TOKENS),
    "unused bits": broken(
        JOSE, "if segment and segment[-1] not in _LAST[len(segment) % 4]:", "if False:", BAD_TOKENS
    ),
    "duplicate members": broken(
        "_core/strict_json.py", "if len(members) != len(pairs):", "if False:", BAD_TOKENS
    ),
    "not a number": broken(
        "_core/strict_json.py",
        'raise ValueError("not a JSON number")',
        "return 0",
        "tests/identity/test_strict_reading.py tests/http/test_bad_tokens.py",
    ),
    # What is remembered
    "remembered by the header": broken(
        "identity/jwt/token_cache.py",
        'sha256(token.encode("ascii"))',
        'sha256(token.split(".")[0].encode("ascii"))',
        BAD_TOKENS,
    ),
    "remembered by twenty letters": broken(
        "identity/jwt/token_cache.py",
        'sha256(token.encode("ascii"))',
        'sha256(token[:20].encode("ascii"))',
        BAD_TOKENS,
    ),
    "remembered for ever": broken(
        "identity/jwt/token_cache.py",
        "identity if not_before <= now < until else None",
        "identity",
        "tests/identity/test_token_cache.py",
    ),
    "remembered beyond the keys": broken(
        KEYS, "            self._on_change()", "            pass", "tests/identity"
    ),
    # Keys
    "first key of any issuer": broken(
        "identity/router.py",
        "self._by_issuer.get(unverified_issuer(token), self._any)",
        "next(iter(self._by_issuer.values()), self._any)",
        "tests/identity/test_router.py",
    ),
    "set that mixes secrets": broken(
        SETS, "    if any(is_secret(member) for member in members):\n", "    if False:\n", KEY_SETS
    ),
    "set with private keys": broken(
        SETS, "if any(has_private_members(member) for member in members):", "if False:", FACE_KEYS
    ),
    "one kid, two keys": broken(
        SETS,
        "if key is not None and (kid is None or len(same) == 1)",
        "if key is not None",
        KEY_SETS,
    ),
    "small RSA key": broken(JOSE, "range(2048, 8192 + 1)", "range(512, 8192 + 1)", KEY_SETS),
    "ROCA key": broken(JOSE, "if has_roca_fingerprint(numbers.n):", "if False:", KEY_SETS),
    "short secret": broken(JOSE, '"HS256": 32', '"HS256": 1', "tests/identity"),
    "key for encryption": broken(JOSE, 'if jwk.get("use", "sig") != "sig":', "if False:", KEY_SETS),
    "key_ops ignored": broken(
        JOSE,
        'if not isinstance(operations, list) or "verify" not in operations:',
        "if False:",
        KEY_SETS,
    ),
    "no cooldown": broken(
        KEYS,
        "self._cooldown_until = now + self._freshness.cooldown",
        "self._cooldown_until = now",
        FETCHED,
    ),
    "older answer wins": broken(KEYS, "if number < self._applied:", "if False:", FETCHED),
    "stale for ever": broken(
        KEYS, "return self._keys if now <= self._stale_at else None", "return self._keys", FETCHED
    ),
    "401 while the provider is away": broken(
        KEYS,
        'return UnavailableError(\n            cause="key source',
        'return InvalidTokenError(cause="") or UnavailableError(\n            cause="key source',
        "tests/http tests/identity/test_key_sources.py",
    ),
    "metadata of another issuer": broken(
        "identity/keys/discovery.py",
        '    named = metadata.get("issuer")\n    if named != issuer:\n'
        "        raise KeySourceError(_issuer_hint(named, issuer))\n    # First",
        "    # First",
        "tests/identity/test_discovery.py",
    ),
    "keys on any host": broken(
        "identity/keys/endpoints.py",
        "if host not in self.hosts:",
        "if False:",
        "tests/identity/test_discovery.py",
    ),
    "keys over http": broken(
        "identity/keys/endpoints.py",
        'return url.startswith("https:") or',
        "return True or",
        "tests/identity/test_discovery.py",
    ),
    # The request
    "first header wins": broken(
        "identity/authorization_header.py",
        'raise InvalidRequestError(cause="authorization: more than one header")',
        "continue",
        "tests/http/test_authorization_header.py",
    ),
    "token in the query beside the header": broken(
        "identity/authorization_header.py",
        "if query and _has_access_token(query):",
        "if False:",
        "tests/http/test_authorization_header.py",
    ),
    "failed header falls through": broken(
        "identity/authentication.py",
        "        identity = await _identity_of(verifier, credentials, self._merged)\n",
        "        try:\n"
        "            identity = await _identity_of(verifier, credentials, self._merged)\n"
        "        except GateError:\n            return await self._ambient(scope)\n",
        "tests/identity/test_client_address.py",
    ),
    "prefix by letters": broken(
        "middleware.py",
        '(prefix + "/",) if prefix',
        "(prefix,) if prefix",
        "tests/http tests/web/test_paths.py",
    ),
    "accepted before it is checked": broken(
        "middleware.py",
        "            nobody = _refusal_at(ground)",
        '            if scope["type"] == "websocket":\n'
        '                await send({"type": "websocket.accept"})\n'
        "            nobody = _refusal_at(ground)",
        "tests/http/test_websockets_and_lifespan.py tests/http/test_subprotocol_tokens.py",
    ),
    "the app sees the sub-protocol token": broken(
        "middleware.py",
        'known["subprotocols"] = without_tokens(known["subprotocols"])',
        "pass",
        "tests/http/test_subprotocol_tokens.py",
    ),
    "cross-site not checked": broken(
        "endpoints/routes.py",
        "if caller.ambient and not is_anonymous:",
        "if False:",
        "tests/http/test_cross_site_and_cors.py",
    ),
    "HEAD issues": broken(
        "endpoints/routes.py",
        '_Route(("GET", "POST"), partial',
        '_Route(("GET", "POST", "HEAD"), partial',
        "tests/http/test_requests_and_bodies.py",
    ),
    # What is shown
    "token in a repr": broken(
        "identity/credentials.py",
        "    token: str = field(repr=False)\n",
        "    token: str\n",
        "tests/http/test_no_secret_shows.py tests/identity",
    ),
    "cause in the answer": broken(
        "errors.py",
        'super().__init__(cause=cause, challenge={"error": "invalid_token"})',
        'super().__init__(cause or None, cause=cause, challenge={"error": "invalid_token"})',
        BAD_TOKENS,
    ),
    "answers that caches keep": broken(
        "errors.py", '{"Cache-Control": "no-store", ', "{", BAD_TOKENS
    ),
    "key in a repr": broken(
        "_core/hidden.py",
        'return f"{type(self).__name__}(***)"\n\n    __str__',
        "return self._reveal()\n\n    __str__",
        "tests/http/test_no_secret_shows.py tests/platform",
    ),
    # Bound tokens
    "proof of another key": broken(DPOP, "if key.thumbprint != thumbprint:", "if False:", BOUND),
    "proof unsigned": broken(DPOP, "if not key.verify(proof):", "if False:", BOUND),
    "proof for another method": broken(
        DPOP, 'if claims.get("htm") != presented.method:', "if False:", BOUND
    ),
    "proof for another address": broken(
        DPOP,
        "if not isinstance(named, str) or wanted is None or _normalized(named) != wanted:",
        "if False:",
        BOUND,
    ),
    "proof for another token": broken(
        DPOP, 'if claims.get("ath") != _digest(token.encode()):', "if False:", BOUND
    ),
    "old proof": broken(
        DPOP, "if not oldest <= iat <= now + self._option.leeway:", "if False:", BOUND
    ),
    "proof used twice": broken(DPOP, "        if not fresh:", "        if False:", BOUND),
    "open when the store is away": broken(
        DPOP,
        'raise UnavailableError(cause="dpop: the store can\'t say if a proof was used") from None',
        "fresh = True",
        BOUND,
    ),
    "free token where bound ones are required": broken(
        "identity/bound/policy.py", "if self._needs_key and _KEY not in bound:", "if False:", BOUND
    ),
    "unknown confirmation": broken(
        "identity/bound/policy.py", "if not self._takes.issuperset(bound):", "if False:", BOUND
    ),
    "any certificate": broken(
        "identity/bound/policy.py", "if shown != wanted:", "if False:", BOUND
    ),
    "certificate in anybody's words": broken(
        "identity/bound/request.py",
        'if name is None or not near.trusted_proxies.contains(self.scope.get("client")):',
        "if name is None:",
        BOUND,
    ),
    "DPoP for a verifier that knows none": broken(
        "identity/protocols.py",
        'if scheme != "bearer" and not self.dpop_algorithms:',
        "if False:",
        BOUND,
    ),
    # Tickets, opaque tokens, API keys, step-up, tenants
    "ticket used twice": broken(
        "stores/memory/store.py",
        "            self._entries.remove(kept.region, self._kept, key)\n",
        "",
        TICKETS,
    ),
    "ticket kept in the clear": broken(
        "identity/tickets/tickets.py",
        'return "ticket:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()',
        'return "ticket:" + text',
        TICKETS,
    ),
    "ticket for any page": broken(
        "endpoints/callers.py", "if caller.ticket is not None:", "if False:", TICKETS
    ),
    "full store forgets": broken(
        "stores/memory/entries.py",
        "            raise StoreError(\n",
        "            [each[2].clear() for heap in self._ends.values() for each in heap]\n"
        "            (\n",
        "tests/stores/test_memory_store.py",
    ),
    "active in any spelling": broken(
        "identity/introspection/policy.py",
        'if answer.get("active") is not True:',
        'if not answer.get("active"):',
        OPAQUE,
    ),
    "opaque token kept past its end": broken(
        "identity/introspection/verifier.py",
        "until = min(until, identity.expires_at)",
        "pass",
        OPAQUE,
    ),
    "questions without end": broken(
        "_core/single_flight.py",
        "if len(self._tasks) + self._alone.total() >= self._most:",
        "if False:",
        OPAQUE,
    ),
    "API key past its end": broken(
        "identity/api_keys.py",
        "self._clock() >= identity.expires_at",
        "False",
        "tests/http/test_api_keys.py",
    ),
    "acr by part": broken(
        "access/rules/step_up.py",
        "if isinstance(acr, str) and acr in wanted:",
        'if isinstance(acr, str) and acr in " ".join(wanted):',
        "tests/access/test_step_up.py",
    ),
    "old sign-in": broken(
        "access/rules/step_up.py",
        "-leeway <= clock() - auth_time <= seconds + leeway",
        "True",
        "tests/access/test_step_up.py",
    ),
    "tenant's verifier of another issuer": broken(
        "identity/tenants.py",
        "if traits.issuers != frozenset({issuer}):",
        "if False:",
        "tests/identity/test_tenants.py",
    ),
    "cookie's WebSocket from any page": broken(
        "endpoints/callers.py",
        'if caller.ambient and scope["type"] == "websocket":',
        "if False:",
        "tests/http/test_cross_site_and_cors.py",
    ),
    "any directory of Microsoft's": broken(
        "providers/entra.py",
        "TenantVerifiers(by_issuer.get, max_entries=len(by_issuer), traits=traits)",
        "TenantVerifiers(lambda issuer: entra(issuer[34:70], audience=audience, **options))",
        PRESETS,
    ),
    "anybody's service account at Google": broken(
        "providers/google.py", 'if claims.get("azp") not in parties:', "if False:", PRESETS
    ),
    "nobody signed in at Firebase": broken(
        "providers/firebase.py",
        'if provider == "anonymous" and not anonymous:',
        "if False:",
        PRESETS,
    ),
    "an app for a user at Supabase": broken(
        "providers/supabase.py",
        'if "client_id" in claims and claims["client_id"] not in clients:',
        "if False:",
        PRESETS,
    ),
    "ID token at Cognito": broken(
        "providers/cognito.py", 'required=(("token_use", "access"),)', "required=()", PRESETS
    ),
    "proxy's token of another application": broken(
        "identity/proxies/aws_alb.py",
        "if header.get(name) != expected:",
        "if False:",
        "tests/http/test_proxied_callers.py",
    ),
    # Limits
    "one limit after another": broken(
        "stores/memory/store.py",
        """                if left < quota.amount:
                    return self._refused(found, now, move, brought)""",
        """                if left < quota.amount and quota is wanted[0][1]:
                    return self._refused(found, now, move, brought)""",
        STORES,
    ),
    "limits over by one": broken(
        "stores/memory/store.py",
        "if left < quota.amount:\n                    return",
        "if left < 0:\n                    return",
        STORES,
    ),
    "limits over by one, in Redis": broken(
        "stores/redis/scripts.py",
        "if most - total < amount then",
        "if most < total then",
        REDIS_COUNTS,
    ),
    "tickets take the room of counts": broken(
        "stores/memory/entries.py",
        "if self._held[region] + wanted > self.most[region]:",
        "if sum(self._held.values()) + wanted > self.most[region]:",
        STORES,
    ),
    "open reservations that are never told of": broken(
        "stores/pending.py",
        "now // TURN % pages * MORE",
        "0",
        "tests/stores/test_pending.py",
    ),
    "unused credentials stand before all others": broken(
        "issuing/settlement.py",
        "sorted(rested, key=self._asked_at)",
        "rested",
        "tests/http/test_settlement.py",
    ),
    "in full without asking": broken(
        "issuing/settlement.py",
        "return await self._settle_if_over(one.platform, one.conversation_id)",
        "pass",
        "tests/http/test_settlement.py",
    ),
    "as often as the client likes": broken(
        "stores/redis/commands.py",
        'if hasattr(client, "get_node_from_key"):\n',
        "if client:\n        return await client.execute_command(*command)\n    if False:\n",
        "tests/stores/test_redis_commands.py",
    ),
    "window that slides along": broken(
        "stores/memory/counters.py", "    elif counts:\n        ends = max(counts)\n", "", STORES
    ),
    "given back twice": broken(
        "stores/memory/store.py",
        "noted: Noted | None = self._entries.remove(Region.NOTES, self._notes, name)",
        "noted: Noted | None = self._notes.get(name)",
        STORES,
    ),
    "never released": broken(
        "issuing/pipeline.py",
        "        await release_reservation(pipeline, reservation, request.identity, **about)\n",
        "",
        QUOTAS,
    ),
    "released where nobody cancels": broken(
        "issuing/pipeline.py",
        "except BaseException:\n        await release_reservation",
        "except Exception:\n        await release_reservation",
        QUOTAS,
    ),
    "open when the store is down": broken(
        "access/limits/reservations.py",
        'closed = [one.title for one in counted if one.limit.on_unavailable == "deny"]',
        "closed: list[str] = []",
        QUOTAS,
    ),
    "counted without the issuer": broken(
        "access/limits/keys.py",
        'f"subject:{len(issuer)}:{issuer}{identity.subject}"',
        'f"subject:{identity.subject}"',
        PRINCIPALS,
    ),
    "subject and issuer run together": broken(
        "access/limits/keys.py",
        'f"subject:{len(issuer)}:{issuer}{identity.subject}"',
        'f"subject:{issuer}{identity.subject}"',
        PRINCIPALS,
    ),
    "X-Forwarded-For of anybody": broken(
        "identity/client_address.py", "if proxies.contains(client):", "if True:", PRINCIPALS
    ),
    "X-Forwarded-For from its beginning": broken(
        "identity/client_address.py",
        "for hop in reversed(_hops(scope)):",
        "for hop in _hops(scope):",
        PRINCIPALS,
    ),
    "every IPv6 address its own": broken(
        "identity/client_address.py",
        "return str(IPv6Network((address, 64), strict=False))",
        "return str(address)",
        PRINCIPALS,
    ),
    "conversation that runs is over": broken(
        "platform/records.py",
        'members.get("status") not in _OVER',
        "False",
        "tests/http/test_settlement.py",
    ),
    # Visitors
    "visitor's ticket unsigned": broken(
        "anonymous/cookie.py",
        "signed, written = self._signer.unsign(text, return_timestamp=True)",
        'signed, written = text.rsplit(".", 2)[0].encode(), __import__("datetime").datetime.now()',
        VISITORS,
    ),
    "visitors from any page": broken(
        "endpoints/routes.py",
        (
            "        resolve_agent(core.pipeline, issue_request)\n"
            '        core.origins.check(request.headers, scope["method"])\n'
        ),
        "        resolve_agent(core.pipeline, issue_request)\n",
        VISITORS,
    ),
    "visitors at private agents": broken(
        "issuing/pipeline.py",
        "if agent is None or not agent.anonymous:",
        "if agent is None:",
        VISITORS,
    ),
    "bad token becomes a visitor": broken(
        "endpoints/callers.py",
        'if admission is None or not visitors or "authorization" in Headers(scope=scope):',
        "if admission is None or not visitors:",
        VISITORS,
    ),
    "visitors on protected paths": broken(
        "endpoints/callers.py",
        'if admission is None or not visitors or "authorization" in Headers(scope=scope):',
        'if admission is None or "authorization" in Headers(scope=scope):',
        VISITORS,
    ),
    "challenge never asked": broken(
        "anonymous/admission.py",
        "if challenge is None or self._has_passed(visit):",
        "if True:",
        VISITORS,
    ),
    "challenge passed by anything": broken(
        "anonymous/admission.py",
        "return (await told if inspect.isawaitable(told) else told) is True",
        "return bool(await told if inspect.isawaitable(told) else told)",
        VISITORS,
    ),
    "challenge passed once and for all": broken(
        "anonymous/admission.py",
        "        if challenge is None or self._has_passed(visit):\n            return visit\n",
        "        if challenge is None:\n            return visit\n"
        "        if visit.passed_until:\n"
        "            return passed(visit, self._clock() + self.visitors.captcha_seconds)\n",
        VISITORS,
    ),
    "puzzle solved again and again": broken(
        "anonymous/proof_of_work.py",
        """            return await self._store.put(
                f"work:{puzzle}", b"", self._budget.seconds, Region.PUZZLES, [budget]
            )
""",
        "            return True\n",
        "tests/anonymous/test_captcha.py",
    ),
    "closed entrance admits": broken(
        "anonymous/switch.py", "        if is_closed:\n", "        if False:\n", VISITORS
    ),
    "lost is opened": broken(
        "anonymous/switch.py",
        "if self._is_closed and not is_closed and not was_opened:",
        "if False:",
        VISITORS,
    ),
    "door open when the store is down": broken(
        "anonymous/switch.py",
        """        levels = await _tell(self._store.look(marks))
        is_closed,""",
        """        try:
            levels = await _tell(self._store.look(marks))
        except UnavailableError:
            return True
        is_closed,""",
        VISITORS,
    ),
    "tickets from a closed entrance": broken(
        "issuing/pipeline.py",
        "    await admission.check_not_paused(request.visitor, request.scope)\n",
        "",
        VISITORS,
    ),
    "any number of visitors' tickets": broken(
        "issuing/pipeline.py",
        "VISITORS_TICKETS if request.identity.is_anonymous else TICKETS",
        "TICKETS",
        VISITORS,
    ),
    "who signs in starts anew": broken(
        "stores/memory/store.py",
        "if move is not None and (brought := self._visitor(move, now)) is not None:",
        "if False:",
        VISITORS,
    ),
    "ticket goes on in the person's name": broken(
        "anonymous/admission.py",
        "if not await self.switch.check(visit.visitor):",
        "if False:",
        VISITORS,
    ),
    "ticket that never ends": broken(
        "anonymous/admission.py",
        "        return await self.switch.leave(visit.visitor, move, self.options.token_seconds)\n",
        "        return True\n",
        VISITORS,
    ),
    "visitor's cookie from any host": broken(
        "anonymous/cookie.py",
        "{'__Host-' if is_secure else ''}",
        "",
        VISITORS,
    ),
    "crowd without a budget": broken(
        "anonymous/options.py",
        "return has_end and one.counted.is_shared",
        "return True",
        VISITORS,
    ),
    # The platform's webhook
    "webhook that nobody signed": broken(HOOKS, "if not any(equal):", "if False:", WEBHOOK),
    "webhook of any time to come": broken(
        HOOKS,
        "abs(self._clock() - int(signature.time))",
        "self._clock() - int(signature.time)",
        WEBHOOK,
    ),
    "webhook of any time ago": broken(
        HOOKS,
        "abs(self._clock() - int(signature.time))",
        "int(signature.time) - self._clock()",
        WEBHOOK,
    ),
    "webhook compared as long as it fits": broken(
        HOOKS,
        "equal = [hmac.compare_digest(one, other) for one in made for other in signature.digests]",
        "equal = [one == other for one in made for other in signature.digests]",
        WEBHOOK_PARTS,
    ),
    "webhook compared until one fits": broken(
        HOOKS,
        "equal = [hmac.compare_digest(one, other) for one in made for other in signature.digests]",
        "equal = (hmac.compare_digest(one, other) for one in made for other in signature.digests)",
        WEBHOOK_PARTS,
    ),
    "first of two signatures wins": broken(
        HOOKS, "if len(values) != 1:", "if not values:", WEBHOOK
    ),
    "webhook read before it is verified": broken(
        "endpoints/webhook.py",
        ("    webhook.verify(signature, body)\n    said = await read_aside(read_finished, body)\n"),
        (
            "    said = read_finished(body)\n"
            "    if isinstance(said, Invalid):\n"
            "        return answer(_RECEIVED)\n"
            "    webhook.verify(signature, body)\n"
        ),
        f"{WEBHOOK}::test_what_the_platform_did_not_sign",
    ),
    "webhook remembered before it settles": broken(
        "endpoints/webhook.py",
        (
            "    is_settled = await core.pipeline.settlement.settle("
            "said.conversation_id, said.seconds)\n"
            "    is_new = await _remember(core.store, said, seconds)\n"
        ),
        (
            "    is_new = await _remember(core.store, said, seconds)\n"
            "    if not is_new:\n"
            '        return "a duplicate"\n'
            "    is_settled = await core.pipeline.settlement.settle("
            "said.conversation_id, said.seconds)\n"
        ),
        WEBHOOK,
    ),
    "webhook forgotten before its signature ends": broken(
        HOOKS, "return 2 * self._tolerance + _GRACE", "return self._tolerance", WEBHOOK
    ),
    "webhook of any size": broken(
        DELIVERIES,
        "await read_raw(scope, receive, MAX_BYTES)",
        "await read_raw(scope, receive, 1 << 30)",
        WEBHOOK,
    ),
    "declared length believed": broken(
        "web/requests.py", "        if len(body) > most:\n", "        if False:\n", WEBHOOK
    ),
    "webhook secret that can be guessed": broken(
        HOOKS, "if len(secret.reveal()) < _LEAST_SECRET:", "if False:", WEBHOOK_PARTS
    ),
    # Leases and revocations
    "revocation not read": broken(
        "stores/memory/store.py",
        "if standing is not None and self._is_revoked(standing):",
        "if False:",
        STORES,
    ),
    "revocation not read, in Redis": broken(
        "stores/redis/scripts.py",
        "if is_revoked(KEYS[others], issued) then return '-' end",
        "",
        REDIS_COUNTS,
    ),
    "revoked at the same time goes on": broken(
        "stores/protocol.py", "self.issued_at <= mark", "self.issued_at < mark", STORES
    ),
    "revoked at the same time goes on, in Redis": broken(
        "stores/redis/scripts.py", "issued <= tonumber(at)", "issued < tonumber(at)", REDIS_COUNTS
    ),
    "held slot does not move": broken(
        "stores/memory/store.py",
        "mark = hold(counts, part.mark, part.amount, length, now)",
        "mark = part.mark",
        STORES,
    ),
    "held slot does not move, in Redis": broken(
        "stores/redis/scripts.py",
        "      hold(named, field, mark, amount, ends)\n",
        "",
        REDIS_COUNTS,
    ),
    "held slot is taken twice": broken(
        "stores/memory/counters.py",
        "    give_back(counts, mark, amount, now)\n    ends = now",
        "    ends = now",
        STORES,
    ),
    "slot kept when it is let go": broken(
        "stores/memory/store.py",
        "self._give_back(_marked(slots, leased.marks), now)",
        "pass",
        STORES,
    ),
    "slot kept when it is let go, in Redis": broken(
        "stores/redis/scripts.py",
        "  give_back(KEYS[i + 2], ARGV[i * 3 - 1], mark, tonumber(ARGV[i * 3 + 1]))\n",
        "",
        REDIS_COUNTS,
    ),
    "slot let go twice": broken(
        "stores/memory/store.py",
        "leased: Leased | None = self._entries.remove(Region.LEASES, self._leases, name)",
        "leased: Leased | None = self._leases.get(name)",
        STORES,
    ),
    "earlier revocation replaces a later one": broken(
        "stores/memory/store.py", "max(revoked.at, at)", "at", STORES
    ),
    "earlier revocation replaces a later one, in Redis": broken(
        "stores/redis/scripts.py",
        "if kept and tonumber(kept) > tonumber(at) then at = kept end",
        "",
        REDIS_COUNTS,
    ),
    # Rules, personal data, events
    "rule open when it is late": broken(
        "access/rules/conditions.py",
        'if isinstance(refused, UnavailableError) and on_unavailable == "allow":',
        "if isinstance(refused, UnavailableError):",
        "tests/access/test_conditions.py",
    ),
    "what is no decision counts as a no": broken(
        "access/rules/rule.py",
        "return refused.status_code >= 500 or isinstance(refused, MistakenRuleError)",
        "return refused.status_code >= 500",
        "tests/access/test_conditions.py",
    ),
    "required variable missing": broken(
        "access/values/personalize.py",
        "    missing = sorted(agent.required_variables - given)\n    if not missing:\n",
        "    missing = sorted(agent.required_variables - given)\n    if True:\n",
        "tests/access/test_types.py",
    ),
    "hooks keep requests waiting": broken(
        "events.py",
        "return hook if is_quick else Background(hook)",
        "return hook if is_quick else Immediate(hook)",
        "tests/test_events.py",
    ),
    "audit log without its chain": Variant(
        edits=(
            (CHAIN, 'if line.get("previous") != end.last:', "if False:"),
            (
                CHAIN,
                "line_of(_told(line), self.end, self._key)",
                'line_of(_told(line), End(self.end.number, line["previous"]), self._key)',
            ),
        ),
        noticed_by=AUDIT,
    ),
    "audit log with a member twice": Variant(
        edits=(
            (CHAIN, ' and _spelled(line) + b"\\n" == octets', ""),
            (
                CHAIN,
                "if hmac.compare_digest(octets, expected):",
                "if _parsed(octets) == _parsed(expected):",
            ),
        ),
        noticed_by=AUDIT,
    ),
    "anything hides in a crash": broken(
        CHAIN,
        "return _told(line) == _break(self.octets, self._digest.hexdigest())",
        'return line.get("log") == "resumed"',
        AUDIT,
    ),
    "forked workers write one file": broken(
        "telemetry/audit.py", "if self._process != os.getpid():", "if False:", AUDIT
    ),
    # The relay
    "visitor's ticket opens protected paths": broken(
        "endpoints/callers.py",
        "if caller.identity.is_anonymous and not visitors:",
        "if False:",
        REACH,
    ),
    "word before it begins comes late": broken(
        "relay/live.py",
        "            await asyncio.wait((task, self.word), return_when=asyncio.FIRST_COMPLETED)\n",
        "            await asyncio.wait((task,))\n",
        f"{REACH}::test_word_before_it_begins",
    ),
    "began without the store, and never seen": broken(
        "relay/live.py",
        "            await _try(_show, elsewhere, self._shared)\n",
        "",
        f"{REACH}::test_what_began_while_the_store_was_away",
    ),
    "goes on though its lease ran out": broken(
        "relay/live.py",
        "            if live.is_lost:\n                live.end(LEASE_LOST)\n            else:",
        "            if True:",
        "tests/relay/test_live.py",
    ),
    "fresh token of another issuer extends": broken(
        RELAYING,
        "if not _is_same_caller(identity, known):",
        "if identity.subject != known.subject:",
        REACH,
    ),
    "tickets without end": broken(
        "access/limits/budgets.py",
        'Limit("300/minute", name="tickets")',
        'Limit("9999/minute", name="tickets")',
        REACH,
    ),
    "revoked here, forgotten without the store": broken(
        "endpoints/operators.py",
        "        await core.stores.fallback.revoke(whom, at, seconds)\n",
        "        pass\n",
        REACH,
    ),
    "client's first frame unchecked": broken(
        RELAYING,
        "sent = check_client(agent, frame.dynamic_variables, frame.overrides)",
        "sent = Personalization(dynamic_variables=frame.dynamic_variables or {}, overrides={})",
        FIRST_FRAMES,
    ),
    "client's variables go before the server's": Variant(
        edits=(
            (
                "access/values/personalize.py",
                "    _check_conflict(server, client)\n    variables",
                "    variables",
            ),
            (
                "access/values/personalize.py",
                "{**server.dynamic_variables, **client.dynamic_variables}",
                "{**client.dynamic_variables, **server.dynamic_variables}",
            ),
        ),
        noticed_by=FIRST_FRAMES,
    ),
    "client says who it is": broken(
        RELAYING,
        "    if user_id is not None:\n        members",
        "    user_id = user_id or 'somebody-else'\n    if True:\n        members",
        FIRST_FRAMES,
    ),
    "unknown members pass": broken(
        "relay/frames.py",
        "if not _MEMBERS.issuperset(members):",
        "if False:",
        FIRST_FRAMES,
    ),
    "second first frame passes": broken(
        "relay/frame_filter.py",
        "            return SECOND_FIRST_FRAME\n",
        "            return None\n",
        FIRST_FRAMES,
    ),
    "escaped second first frame passes": broken(
        "relay/frame_filter.py",
        "            return self._closely(text)\n",
        '            return None if "\\\\u" in text else self._closely(text)\n',
        JUDGING,
    ),
    "audio where only text is open": broken(
        "relay/frame_filter.py",
        "(AUDIO not in self._kinds and names.has_audio)",
        "False",
        JUDGING,
    ),
    "conversation outlives its token": broken(
        RELAYING,
        "    live.deadlines.expire_at(conversation.request.identity.expires_at)\n",
        "",
        RELAY_ENDS,
    ),
    "leeway at the end of a token": broken(
        "relay/deadlines.py",
        "left = moment - self._clock()",
        "left = moment + 30 - self._clock()",
        "tests/relay/test_deadlines.py",
    ),
    "conversation begins by the leeway": broken(
        RELAYING,
        "if identity.expires_at is not None and now >= identity.expires_at:",
        "if False:",
        RELAY,
    ),
    "fresh token of anybody": broken(
        RELAYING,
        "if not _is_same_caller(identity, known):",
        "if False:",
        RELAY_ENDS,
    ),
    "revocation not read at the connect": broken(
        "access/limits/reservations.py",
        "reserved = await stores.shared.reserve(wanted, move, standing)",
        "reserved = await stores.shared.reserve(wanted, move)",
        RELAY_ENDS,
    ),
    "heartbeat that doesn't hear of revocations": broken(
        "relay/live.py",
        "        live.end(_WORDS[answer.word])\n",
        "        if answer.word == 'ended':\n            live.end(_WORDS[answer.word])\n",
        RELAY_ENDS,
    ),
    "ticket for any agent": broken(
        "endpoints/routes.py", "if named not in (None, ticket.agent):", "if False:", RELAY
    ),
    "ticket from any page": broken(
        "endpoints/callers.py",
        "core.origins.check_ticket(Headers(scope=scope), caller.ticket.origin)",
        "pass",
        RELAY,
    ),
    "cookie from any page, over a WebSocket": broken(
        "endpoints/routes.py",
        ("        resolve_agent(core.pipeline, issue_request)\n    if caller.ambient:"),
        ("        resolve_agent(core.pipeline, issue_request)\n    if False:"),
        RELAY,
    ),
    "operator's cookie from any page": broken(
        "endpoints/routes.py",
        '        request.core.origins.check(request.headers, request.scope["method"])\n',
        "        pass\n",
        OVERSIGHT,
    ),
    "anybody is an operator": broken(
        "endpoints/operators.py",
        ("refusal = await rule.refusal(identity, connection)\n    if refusal is not None:"),
        ("refusal = await rule.refusal(identity, connection)\n    if False:"),
        OVERSIGHT,
    ),
    "signed URL of a relayed agent leaves": broken(
        "endpoints/credentials.py",
        'if request.transport == "websocket" and resolve_agent(pipeline, request).is_relayed:',
        "if False:",
        RELAY,
    ),
    "token chosen as the sub-protocol": broken(
        "relay/client.py",
        "chosen = SUBPROTOCOL if SUBPROTOCOL in self._offered else None",
        "chosen = next(iter(self._offered), None)",
        RELAY,
    ),
    "slot is never free again": broken(
        RELAYING, "    await relay_context.sessions.leave(live)\n", "", RELAY_LIMITS
    ),
    "time is never settled": broken(
        RELAYING,
        "        await _settle(pipeline, conversation, seconds)\n",
        "        pass\n",
        RELAY_LIMITS,
    ),
    "time is lost where no note was kept": broken(
        RELAYING,
        "        await conversation.reservation.give_back_time(seconds)\n",
        "",
        RELAY_LIMITS,
    ),
    "last words of the platform are lost": broken(
        "relay/pumps.py",
        "return await asyncio.shield(self._ended)",
        "return closed_by_platform(self._line.ended)",
        "tests/relay/test_pumps.py",
    ),
}

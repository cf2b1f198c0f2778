"""Broken variants of how long a decision lasts."""

from typing import Final

from .variants import Variant, broken

RELAYING: Final = "relay/conversation.py"
RECHECKS: Final = "relay/rechecks.py"
INTROSPECTION: Final = "identity/introspection/verifier.py"
TICKETS: Final = "identity/tickets/tickets.py"
CLIENT: Final = "relay/client.py"

FACE: Final = "tests/http/test_token_rechecks.py"
TENANTS: Final = "identity/tenants.py"
OF_TENANTS: Final = "tests/identity/test_tenants.py"
REMEMBERED: Final = "identity/jwt/token_cache.py"
MEMORY: Final = "tests/identity/test_token_cache.py"
OPAQUE: Final = "tests/http/test_opaque_tokens.py"
PARTS: Final = "tests/relay/test_rechecks.py"
SERVERS: Final = "tests/web/test_unfit_servers.py"
DIRECTLY: Final = f"{FACE}::test_revoked_by_its_provider[opened_directly]"
BY_URL: Final = f"{FACE}::test_revoked_by_its_provider[opened_by_signed_url]"

VARIANTS: Final[dict[str, Variant]] = {
    "a fresh token of any letters": broken(
        "identity/authentication.py",
        'if not is_token(token.encode("utf-8", "surrogatepass")):',
        "if False:",
        "tests/http/test_token_rechecks.py::test_fresh_token_that_no_header_could_hold",
    ),
    "strangers' failures close the endpoint for conversations": broken(
        "identity/introspection/verifier.py",
        "endpoint = self._known_endpoint\n",
        "endpoint = self._endpoint\n",
        "tests/http/test_token_rechecks.py::test_strangers_whose_tokens_fail_cannot_end_it",
    ),
    "strangers' failures keep known callers out": broken(
        INTROSPECTION,
        "endpoint, questions = self._known_endpoint, self._known_questions",
        "pass",
        f"{OPAQUE}::test_strangers_tokens_that_fail",
    ),
    "strangers' queue is the known callers'": broken(
        INTROSPECTION,
        "endpoint, questions = self._known_endpoint, self._known_questions",
        "endpoint = self._known_endpoint",
        f"{OPAQUE}::test_known_caller_in_a_flood",
    ),
    "strangers' failures make the gate unready": broken(
        INTROSPECTION,
        "return self._known_endpoint.ready",
        "return self._known_endpoint.ready and self._endpoint.ready",
        f"{OPAQUE}::test_strangers_tokens_that_fail",
    ),
    "opaque tokens are always ready": broken(
        INTROSPECTION,
        "return self._known_endpoint.ready",
        "return True",
        f"{OPAQUE}::test_known_token_that_fails",
    ),
    "revoked token counts as known": broken(
        INTROSPECTION,
        "            self._known.drop(seen)\n",
        "",
        f"{OPAQUE}::test_revoked_token_is_a_strangers",
    ),
    "each question of one hiccup lengthens the pause": broken(
        "identity/introspection/client.py",
        "if pauses == self._pauses:",
        "if True:",
        f"{OPAQUE}::test_one_hiccup_is_one_pause",
    ),
    # An opaque token that its provider takes back
    "conversation of a revoked token goes on": broken(
        "relay/conversation.py",
        (
            "            _report(relay_context, conversation, error)\n"
            "            raise ConversationClosedError(REVOKED) from None\n"
        ),
        ("            _report(relay_context, conversation, error)\n            return\n"),
        DIRECTLY,
    ),
    "what is remembered counts as asked again": broken(
        INTROSPECTION,
        "        seen = fingerprint(token)\n        return await self._rechecks.ask(",
        "        seen = fingerprint(token)\n"
        "        if remembered := self._remembered.get(seen, self._clock()):\n"
        "            return remembered\n"
        "        return await self._rechecks.ask(",
        DIRECTLY,
    ),
    "revoked token is remembered": broken(
        INTROSPECTION,
        "            self._remembered.drop(seen)\n",
        "",
        f"{FACE}::test_one_question_for_all_who_ask_at_once",
    ),
    "strangers keep conversations from being asked about": broken(
        INTROSPECTION,
        "return await self._rechecks.ask(",
        "return await self._questions.ask(",
        f"{FACE}::test_strangers_cannot_end_it",
    ),
    "ticket loses the token": broken(
        TICKETS,
        '"token": None if ticket.token is None else seal(text, ticket.token)',
        '"token": None',
        BY_URL,
    ),
    "a route of one's own loses the token": broken(
        "gate.py",
        "token=self._core.authentication.proof_of(connection, identity)",
        "token=None",
        f"{FACE}::test_revoked_by_its_provider[opened_by_own_route]",
    ),
    "token in the store in the clear": Variant(
        edits=(
            (TICKETS, "seal(text, ticket.token)", "ticket.token.reveal()"),
            (
                TICKETS,
                "unseal(text, sealed, identity.issuer)",
                "HeldToken(sealed, identity.issuer)",
            ),
        ),
        noticed_by=f"{FACE}::test_store_alone_cannot_open_the_token",
    ),
    "any ticket opens the token": broken(
        "identity/tickets/sealing.py",
        "derived.derive(ticket.encode())",
        'derived.derive(b"")',
        f"{FACE}::test_store_alone_cannot_open_the_token",
    ),
    "JWT kept with its ticket": broken(
        "identity/authentication.py",
        "if await self.recheck_interval(ticket.token) is None:",
        "if False:",
        f"{FACE}::test_jwts_are_asked_about_by_nobody",
    ),
    "ticket's token asked about late": broken(
        RELAYING,
        "soon=conversation.request.has_ticket",
        "soon=False",
        f"{FACE}::test_revoked_between_ticket_and_opening",
    ),
    "lists lose the capability": broken(
        "identity/authentication.py",
        "verifier, traits = verifier.verifier_of(token.reveal())",
        "pass",
        f"{FACE}::test_behind_lists_and_tenants",
    ),
    "tenants lose the capability": broken(
        "identity/tenants.py",
        "return await recheck_interval_of(tenant.verifier, token)",
        "return None",
        f"{FACE}::test_behind_lists_and_tenants",
    ),
    # What is remembered of tokens
    "remembered whatever it takes": broken(
        REMEMBERED,
        "while len(self._entries) > MAX_TOKENS or self._octets > MAX_OCTETS:",
        "while len(self._entries) > MAX_TOKENS:",
        f"{MEMORY}::test_octets_are_bounded_and_the_oldest_goes_first",
    ),
    "dropped tokens count on": broken(
        REMEMBERED,
        "            self._octets -= entry[3]\n",
        "            pass\n",
        f"{MEMORY}::test_octets_are_bounded_and_the_oldest_goes_first",
    ),
    "large answers are remembered": broken(
        REMEMBERED,
        "        if octets > MAX_TOKEN_LENGTH:\n            return\n",
        "",
        f"{OPAQUE}::test_large_answer_is_not_remembered",
    ),
    "ended tokens are kept": broken(
        REMEMBERED,
        "        self._forget_ended(now)\n",
        "",
        f"{MEMORY}::test_what_has_ended_goes_first",
    ),
    # Tenants, and strangers who name them
    "a question without an answer waits for the next interval": broken(
        "relay/rechecks.py",
        "self._wait(seconds, min(left, self._pause(error)))",
        "self._wait(seconds, min(left, seconds * 0.9))",
        "tests/http/test_token_rechecks.py::test_strangers_who_use_up_what_the_provider_answers",
    ),
    "one account's tokens fill known callers' places": broken(
        INTROSPECTION,
        "token, seen), account)",
        "token, seen), seen)",
        "tests/http/test_opaque_tokens.py::test_known_tokens_of_one_account",
    ),
    "an account's places are never free again": broken(
        "_core/single_flight.py",
        "        self._forget_one_of(owner)\n        if not task.cancelled():\n",
        "        if not task.cancelled():\n",
        "tests/http/test_opaque_tokens.py::test_known_tokens_of_one_account",
    ),
    "strangers' questions wait for connections": broken(
        INTROSPECTION,
        "connections=max_concurrent)",
        "connections=8)",
        "tests/http/test_opaque_tokens.py::test_questions_wait_for_no_connection",
    ),
    "conversations' questions wait for known callers'": broken(
        INTROSPECTION,
        "connections=2 * max_concurrent)",
        "connections=max_concurrent)",
        "tests/http/test_opaque_tokens.py::test_questions_wait_for_no_connection",
    ),
    "a provider's Retry-After is not heeded": broken(
        "identity/introspection/client.py",
        "min(self._longest_pause, max(shortest, 2.0**self._failures))",
        "min(self._longest_pause, 2.0**self._failures)",
        "tests/http/test_opaque_tokens.py::test_provider_that_limits_how_often_it_is_asked",
    ),
    "a provider says for how long known callers stay out": broken(
        "identity/introspection/verifier.py",
        "(LONGEST_PAUSE, LONGEST_PAUSE_OF_KNOWN)",
        "(LONGEST_PAUSE, LONGEST_PAUSE)",
        "tests/http/test_opaque_tokens.py::test_provider_that_limits_how_often_it_is_asked",
    ),
    "no answer ends a conversation at once": broken(
        "relay/rechecks.py",
        "_PATIENCE: Final = 2\n",
        "_PATIENCE: Final = 0.1\n",
        "tests/relay/test_rechecks.py::test_no_answer_for_two_intervals",
    ),
    "strangers' look-ups hold up known tenants": broken(
        TENANTS,
        "look_ups = self._look_ups if known is None else self._known_look_ups",
        "look_ups = self._look_ups",
        f"{OF_TENANTS}::test_known_tenant_among_made_up_issuers",
    ),
    "forged token counts as a use": broken(
        TENANTS,
        "        if kept is not None and now < kept.until:\n",
        "        if kept is not None and now < kept.until:\n"
        "            self._count_as_used(kept)\n",
        f"{OF_TENANTS}::test_forged_token_counts_as_no_use",
    ),
    "first users of tenants wait for nobody": broken(
        TENANTS,
        '"tenant look-ups", max_concurrent=max_concurrent, max_queued=LOOK_UPS_WAITING',
        '"tenant look-ups", max_concurrent=max_concurrent',
        f"{OF_TENANTS}::test_first_users_of_many_tenants_at_once",
    ),
    "look-ups that waited look for no room": broken(
        TENANTS,
        "            self._check_room(self._now())  #",
        "            pass  #",
        f"{OF_TENANTS}::test_look_ups_that_wait_take_no_place",
    ),
    "verifier begins while it is being closed": broken(
        TENANTS,
        "                await self._wait_until_closed(verifier)\n",
        "",
        f"{OF_TENANTS}::test_what_is_found_again_while_it_is_closed",
    ),
    "verifier is closed for those who found it again": broken(
        TENANTS,
        "isinstance(verifier, Lifecycle) or self._is_in_use(tenant):",
        "isinstance(verifier, Lifecycle):",
        f"{OF_TENANTS}::test_what_is_found_again_while_somebody_is_with_it",
    ),
    "tenant that is named is a live one": broken(
        TENANTS,
        "        place[issuer] = found\n",
        "        place[issuer] = found\n        self._count_as_used(found)\n",
        f"{OF_TENANTS}::test_forged_tokens_drop_no_live_tenant",
    ),
    "newcomers without a bound": broken(
        TENANTS,
        "        while not self._has_room(0):\n",
        "        while False:\n",
        f"{OF_TENANTS}::test_forged_tokens_drop_no_live_tenant",
    ),
    "newcomers make room at once": broken(
        TENANTS,
        "NEWCOMER_SECONDS: Final = 10.0",
        "NEWCOMER_SECONDS: Final = 0.0",
        f"{OF_TENANTS}::test_forged_tokens_drop_no_live_tenant",
    ),
    "newcomers looked up without room": broken(
        TENANTS,
        "if self._has_room(1) or self._idle(now) is not None:",
        "if now or not now:",
        f"{OF_TENANTS}::test_forged_tokens_drop_no_live_tenant",
    ),
    "newcomer for ever": broken(
        TENANTS,
        "            self._count_as_used(tenant)\n            return identity\n\n"
        "    async def recheck_interval",
        "            return identity\n\n    async def recheck_interval",
        f"{OF_TENANTS}::test_newcomer_that_is_verified_stays",
    ),
    "token that is another caller's now": broken(
        RELAYING,
        "if not _is_same_caller(identity, conversation.identity):",
        "if False:",
        f"{FACE}::test_what_the_provider_would_not_be_believed",
    ),
    "scope that is taken back": broken(
        RELAYING,
        "if _grants_of(identity) != _grants_of(conversation.identity):",
        "if False:",
        f"{FACE}::test_scope_that_is_taken_back",
    ),
    "shortened end ignored": broken(
        RELAYING,
        "        if identity.expires_at is not None:\n            conversation.live.deadlines",
        "        if False:\n            conversation.live.deadlines",
        f"{FACE}::test_end_that_comes_sooner",
    ),
    "old token counts after a refresh": broken(
        RELAYING,
        "        conversation.identity, conversation.token = identity, held\n",
        "        conversation.identity = identity\n",
        f"{FACE}::test_fresh_token_takes_over",
    ),
    "late answer about the old token": broken(
        RECHECKS,
        "        self.stop()\n        self._unanswered = 0\n",
        "        self._unanswered = 0\n",
        f"{FACE}::test_answer_about_the_old_token_that_comes_late",
    ),
    "no answer, for ever": broken(
        RECHECKS,
        "            if left <= 0:\n",
        "            if left < -1e9:\n",
        f"{PARTS}::test_three_questions_at_least",
    ),
    "one question without an answer ends it": broken(
        RECHECKS,
        "_UNANSWERED: Final = 3",
        "_UNANSWERED: Final = 1",
        f"{PARTS}::test_three_questions_at_least",
    ),
    "all ask at once": broken(
        RECHECKS,
        "seconds * self._spread(_SHORTEST, 1)",
        "seconds",
        f"{PARTS}::test_a_thousand_at_once",
    ),
    "asked after the end": broken(
        RELAYING,
        "    if conversation.recheck is not None:\n        conversation.recheck.stop()\n",
        "",
        f"{FACE}::test_nothing_is_left",
    ),
    # Servers
    "any server carries conversations": broken(
        RELAYING,
        "    client.check_server()\n",
        "",
        f"{SERVERS}::test_conversation_on_an_unfit_server",
    ),
    "goodbye that is waited for": broken(
        CLIENT,
        "await asyncio.wait((leaving,), timeout=_CLOSE)",
        "await asyncio.wait_for(leaving, _CLOSE)",
        "tests/relay/test_client.py",
    ),
}

"""Broken variants of what gates share in a store, and of what verifiers say of themselves."""

from typing import Final

from .variants import Variant, broken

_TRAITS: Final = "tests/identity/test_protocols.py::test_"
_APART: Final = "tests/http/test_gates_apart.py::test_"
_ROUTER: Final = "tests/identity/test_router.py::test_"
_RECHECKS: Final = "tests/http/test_token_rechecks.py::test_"
_SEALING: Final = "identity/tickets/sealing.py"
_TRUST: Final = "identity/tickets/trust.py"

VARIANTS: Final[dict[str, Variant]] = {
    # What a verifier says of itself
    "revocation of a day at most": broken(
        "endpoints/operators.py",
        "known = core.authentication.max_token_seconds(issuer)",
        "known = DEFAULT_TOKEN_SECONDS",
        f"{_TRAITS}revocation_lasts_as_long_as_the_longest_token",
    ),
    "revocation ends before the leeway": broken(
        "identity/jwt/verifiers.py",
        "max_token_seconds=policy.max_lifetime + policy.leeway",
        "max_token_seconds=policy.max_lifetime",
        f"{_TRAITS}revocation_covers_the_leeway",
    ),
    "revoked API key good again": broken(
        "identity/api_keys.py",
        "now + MAX_TOKEN_SECONDS if key.expires_at is None",
        "now + 1 if key.expires_at is None",
        f"{_TRAITS}revocation_of_api_keys_without_end",
    ),
    "revoked visitor good again": broken(
        "endpoints/operators.py",
        "if issuer == VISITOR_ISSUER:",
        "if False:",
        f"{_TRAITS}revocation_of_what_says_how_long_it_lives",
    ),
    "unknown issuer revoked for a day": broken(
        "identity/authentication.py",
        "        if not described:\n            return None\n",
        "",
        f"{_TRAITS}revocation_at_a_gate_that_lacks_the_verifier",
    ),
    "visitors revoked for a day elsewhere": broken(
        "endpoints/operators.py",
        "        known = None\n",
        "        known = DEFAULT_TOKEN_SECONDS\n",
        f"{_TRAITS}revocation_of_an_issuer_that_nothing_here_knows",
    ),
    "revoked for an authenticator's day": broken(
        "identity/authentication.py",
        "described.append(self._authenticators_traits)",
        "pass",
        f"{_TRAITS}revocation_of_what_says_how_long_it_lives",
    ),
    "opaque token of any age": broken(
        "identity/introspection/policy.py",
        'self._check_age(time_of(answer, "iat"), now)',
        "pass",
        f"{_TRAITS}opaque_token_that_is_older_than_its_bound",
    ),
    "tenants declare nothing": broken(
        "identity/tenants.py",
        "traits or VerifierTraits(), resolves_issuers=True",
        "VerifierTraits(), resolves_issuers=True",
        f"{_TRAITS}challenges_and_metadata_behind_tenants",
    ),
    "tenant beyond what was declared": broken(
        "identity/tenants.py",
        "if beyond := traits.beyond(declared):",
        "if beyond := ():",
        f"{_TRAITS}tenant_beyond_what_was_declared",
    ),
    "issuer beyond what was declared": broken(
        "identity/tenants.py",
        "if not self.traits.may_verify(issuer) or not _could_be_an_issuer(issuer):",
        "if not _could_be_an_issuer(issuer):",
        f"{_TRAITS}declared_issuers_are_the_only_ones",
    ),
    "list loses its members' DPoP": broken(
        "identity/protocols.py",
        "dpop_algorithms=tuple(name for each in listed for name in each.dpop_algorithms),",
        "dpop_algorithms=listed[0].dpop_algorithms,",
        f"{_TRAITS}challenges_behind_tenants_in_a_list",
    ),
    "identity of an issuer that was not declared": broken(
        "identity/authentication.py",
        "    traits.check_issuer(identity)\n    return identity\n",
        "    return identity\n",
        f"{_TRAITS}identity_of_an_issuer_that_was_not_declared",
    ),
    "session of an issuer that was not declared": broken(
        "identity/authentication.py",
        "        self._authenticators_traits.check_issuer(identity)\n",
        "",
        f"{_TRAITS}session_of_an_issuer_that_was_not_declared",
    ),
    "identity of another verifier's issuer": broken(
        "identity/router.py",
        "        traits.check_issuer(identity)\n",
        "",
        f"{_TRAITS}identity_of_another_verifiers_issuer",
    ),
    "identity of another tenant's": broken(
        "identity/tenants.py",
        "            identity = await tenant.verifier.verify(credentials)\n"
        "            tenant.traits.check_issuer(identity)\n",
        "            identity = await tenant.verifier.verify(credentials)\n",
        f"{_TRAITS}identity_of_another_tenant",
    ),
    "asked again about another's": Variant(
        edits=(
            (
                "identity/authentication.py",
                "        traits.check_issuer(identity)\n        return identity\n\n"
                "    async def verify_token",
                "        return identity\n\n    async def verify_token",
            ),
            (
                "identity/tenants.py",
                "            identity = await recheck_by(tenant.verifier, token)\n"
                "            tenant.traits.check_issuer(identity)\n",
                "            identity = await recheck_by(tenant.verifier, token)\n",
            ),
        ),
        noticed_by=f"{_TRAITS}recheck_that_names_another_issuer",
    ),
    # Whose provider a token goes to
    "a proof of any gate's": broken(
        "identity/authentication.py",
        "if is_same and verifier is self._verifier:",
        "if is_same:",
        f"{_RECHECKS}another_gates_token_goes_to_no_other_provider",
    ),
    "the latest proof alone": broken(
        "identity/authentication.py",
        "for verifier, proven, token in proofs:",
        "for verifier, proven, token in proofs[:1]:",
        f"{_RECHECKS}gates_in_one_request_keep_their_own_proofs",
    ),
    "a token for whichever verifier recognizes it": broken(
        "identity/authentication.py",
        "if not traits.may_verify(token.issuer):",
        "if False:",
        f"{_RECHECKS}tickets_token_goes_to_no_other_provider",
    ),
    "provider is sent API keys": broken(
        "identity/introspection/verifier.py",
        "return not token.startswith(_OURS) and self._pattern",
        "return self._pattern",
        f"{_ROUTER}api_keys_go_to_no_provider",
    ),
    "provider is sent tickets": broken(
        "identity/introspection/verifier.py",
        "_OURS: Final = (API_KEY, TICKET)",
        "_OURS: Final = (API_KEY,)",
        f"{_ROUTER}api_keys_go_to_no_provider",
    ),
    "whatever looks opaque in the order of the list": broken(
        "identity/router.py",
        "return 2 if takes_all else 1",
        "return 1",
        f"{_ROUTER}who_takes_all_opaque_tokens_is_asked_last",
    ),
    "two for the same tokens": broken(
        "identity/router.py",
        "if one.token_pattern == other.token_pattern:",
        "if False:",
        f"{_ROUTER}two_that_take_the_same_tokens",
    ),
    "sealed token for any issuer": Variant(
        edits=(
            (
                _SEALING,
                "token.reveal().encode(), _octets(token.issuer)",
                "token.reveal().encode(), None",
            ),
            (_SEALING, "decrypt(nonce, rest, _octets(issuer))", "decrypt(nonce, rest, None)"),
        ),
        noticed_by="tests/http/test_token_rechecks.py::test_sealed_token_that_somebody_changed",
    ),
    # The name of a gate
    "gate without a name": broken(
        "stores/namespace.py",
        "    if name is None:\n",
        '    name = "xuna" if name is None else name\n    if name is None:\n',
        "tests/stores/test_redis_store.py::test_name_of_the_gate_is_required",
    ),
    "all gates of one name": broken(
        "stores/redis/store.py",
        'notation.Keys(f"{{{self.namespace}}}:")',
        'notation.Keys("{xuna}:")',
        f"{_APART}limits {_APART}revocations",
    ),
    "visitor of any gate": broken(
        "anonymous/cookie.py",
        'salt = _SALT + b":" + namespace.encode()',
        "salt = _SALT",
        f"{_APART}visitors_of_another_gate",
    ),
    "challenge passed under other terms": broken(
        "anonymous/cookie.py",
        "int(passed_until) if terms == self._terms else 0",
        "int(passed_until)",
        f"{_APART}visitors_of_another_gate",
    ),
    "puzzle of any gate": broken(
        "anonymous/proof_of_work.py",
        "namespace = namespace_of(self._store)",
        'namespace = ""',
        f"{_APART}puzzles_of_another_gate",
    ),
    "nonce of any gate": broken(
        "identity/bound/request.py",
        'return f"{namespace_of(near.store)} {near.origin}"',
        'return ""',
        f"{_APART}nonces_of_another_gate",
    ),
    # Who vouched for a ticket
    "ticket of any gate of the store": broken(
        "identity/authentication.py",
        "            await self.trust.check(ticket)\n",
        "            pass\n",
        f"{_APART}ticket_of_an_issuer_that_the_other_gate_cannot_verify",
    ),
    "ticket used up by a 503": broken(
        "identity/authentication.py",
        "            await self.tickets.put_back(text, ticket)\n",
        "",
        f"{_APART}ticket_of_a_tenant_that_cannot_be_looked_up_now",
    ),
    "ticket put back for a minute": broken(
        "identity/tickets/tickets.py",
        "left = min(SECONDS, ticket.until - self._clock())",
        "left = SECONDS",
        "tests/http/test_tickets.py::test_ticket_that_is_put_back",
    ),
    "API key without a number for its end": broken(
        "identity/api_keys.py",
        "type(ends) not in (int, float) or not math.isfinite(ends)",
        "type(ends) not in (int, float)",
        "tests/identity/test_protocols.py::test_ends_that_are_no_numbers",
    ),
    "identity without a number for its end": broken(
        "identity/credentials.py",
        "if expires_at is not None and expires_at != expires_at:",
        "if False:",
        "tests/identity/test_protocols.py::test_ends_that_are_no_numbers",
    ),
    "ticket of any issuer": broken(
        _TRUST,
        "if not await self._verifies(ticket.identity.issuer):",
        "if False:",
        f"{_APART}ticket_of_an_issuer_that_the_other_gate_cannot_verify",
    ),
    "ticket of any tenant": broken(
        _TRUST,
        "if not isinstance(verifier, Resolving) or await verifier.resolves(issuer):",
        "if True:",
        f"{_APART}ticket_of_a_tenant",
    ),
    "ticket of any authenticator": broken(
        _TRUST,
        "if self._authenticator is None:",
        "if False:",
        f"{_APART}ticket_that_an_authenticator_vouched_for",
    ),
    "ticket of an authenticator of any issuer": broken(
        _TRUST,
        "if not self._authenticator.may_verify(ticket.identity.issuer):",
        "if False:",
        f"{_APART}ticket_of_an_issuer_that_the_other_authenticator_does_not_declare",
    ),
    "ticket of any app whose authenticator differs": broken(
        _TRUST,
        "None if authenticator is None else _issuers_of(authenticator)",
        "authenticator is not None",
        f"{_APART}ticket_that_the_app_vouched_for",
    ),
    "ticket of any visitor": broken(
        _TRUST,
        "if ticket.mark != self._visitors:",
        "if False:",
        f"{_APART}ticket_of_a_visitor_who_passed_another_challenge",
    ),
    "ticket of any app": broken(
        _TRUST,
        "if ticket.mark != self._fingerprint:",
        "if False:",
        f"{_APART}ticket_that_the_app_vouched_for",
    ),
    "ticket for any agent, at another gate": broken(
        _TRUST,
        "if ticket.agent not in self._agents:",
        "if False:",
        f"{_APART}ticket_for_an_agent_that_the_other_gate_lacks",
    ),
    "ticket forgets who vouched": broken(
        "endpoints/routes.py",
        "        voucher=caller.voucher,\n",
        "",
        f"{_APART}ticket_that_an_authenticator_vouched_for",
    ),
    "ticket that says nothing of who vouched": broken(
        "identity/tickets/tickets.py",
        'if members.get("voucher") not in _VOUCHERS:',
        "if False:",
        f"{_APART}ticket_that_says_nothing_of_its_origin",
    ),
    # A user's store
    "store without is_pending": broken(
        "assembly.py",
        "for name in _verbs_of(Store) if",
        'for name in _verbs_of(Store) if name != "is_pending" and',
        f"{_APART}store_of_a_users_that_misses_a_verb",
    ),
    "store that inherits its verbs": broken(
        "assembly.py",
        'return callable(verb) and getattr(verb, "__func__", None) is not vars(Store)[name]',
        "return callable(verb)",
        f"{_APART}store_that_inherits_a_verb_from_the_protocol",
    ),
    # Gates of one name that count differently
    "short slots end long ones": broken(
        "access/limits/budgets.py",
        "seconds=max(_LONGEST_SLOT, held)",
        "seconds=held",
        f"{_APART}slots_of_gates_that_last_differently",
    ),
    "named limits of all windows are one": broken(
        "access/limits/limits.py",
        'return f"{limit.seconds} {which}"',
        "return which",
        f"{_APART}named_limits_with_other_windows",
    ),
    "a deploy with a shorter max_duration counts slots anew": broken(
        "access/limits/budgets.py",
        '{limit.counts_like}".encode()',
        '{limit.counts_like}/{held}".encode()',
        f"{_APART}slots_of_gates_that_last_differently",
    ),
}

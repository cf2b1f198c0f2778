"""Broken variants of who counts as which caller, and of the audit log."""

from typing import Final

from .variants import Variant, broken

CROSS_SITE: Final = "web/cross_site.py"
ADDRESSES: Final = "identity/client_address.py"
NETWORKS: Final = "identity/proxies/trusted.py"
SAMPLING: Final = "telemetry/sampling.py"
AUDIT_LOG: Final = "telemetry/audit.py"

MARKUP: Final = "tests/http/test_fetch_metadata.py"
PRINCIPALS: Final = "tests/access/test_limit_keys.py::test_addresses"
PROXIES: Final = "tests/identity/test_trusted_proxies.py"
SAMPLED: Final = "tests/telemetry/test_audit_sampling.py"
PASSED: Final = "tests/http/test_visitors.py::test_passed_counts_under_this_challenge_only"
BUDGETS: Final = "tests/http/test_budgets.py"
ENDS: Final = "tests/http/test_relay_ends.py"
UNLIMITED: Final = "tests/http/test_unlimited_agents.py"

VARIANTS: Final[dict[str, Variant]] = {
    "a stylesheet's document() is a fetch()": broken(
        "web/cross_site.py",
        "if mode not in ([], [_FETCH_MODE]):",
        'if mode not in ([], [_FETCH_MODE], ["same-origin"]):',
        "tests/http/test_fetch_metadata.py",
    ),
    # Fetch Metadata
    "markup of the own origin issues": broken(
        CROSS_SITE,
        'if destination not in ([], ["empty"]):',
        "if False:",
        f"{MARKUP}::test_markup_gets_and_spends_nothing",
    ),
    "only some destinations are refused": broken(
        CROSS_SITE,
        'if destination not in ([], ["empty"]):',
        'if destination in (["image"], ["script"], ["document"], ["iframe"]):',
        f"{MARKUP}::test_markup_gets_and_spends_nothing",
    ),
    "pings and beacons issue": broken(
        CROSS_SITE,
        "if mode not in ([], [_FETCH_MODE]):",
        "if False:",
        f"{MARKUP}::test_markup_gets_and_spends_nothing",
    ),
    "preload with crossorigin issues": broken(
        CROSS_SITE,
        'if method == "GET" and headers.get("sec-fetch-site") == "same-origin" and "origin" in '
        "headers:",
        "if False:",
        f"{MARKUP}::test_markup_gets_and_spends_nothing",
    ),
    "forms of old browsers issue": broken(
        CROSS_SITE,
        "if not mode and _media_type(headers) in _FORM_TYPES:",
        "if False:",
        f"{MARKUP}::test_empty_form_of_an_old_browser",
    ),
    "a WebSocket must be a fetch": broken(
        CROSS_SITE,
        '        if required or "origin" in headers:\n            self._check_origin(headers)\n',
        '        if required or "origin" in headers:\n            self.check(headers)\n',
        f"{MARKUP}::test_websocket_is_no_fetch",
    ),
    "markup reads what a caller has left": broken(
        "endpoints/routes.py",
        "        request.core.origins.check_reading(request.headers)\n",
        "        pass\n",
        f"{MARKUP}::test_markup_reads_and_ends_nothing",
    ),
    # Addresses
    "translated addresses share one budget": broken(
        ADDRESSES,
        '    (IPv6Network("64:ff9b::/96"), _last_32_bits),\n',
        "",
        PRINCIPALS,
    ),
    "one 6to4 subscriber has many budgets": broken(
        ADDRESSES,
        '    (IPv6Network("2002::/16"), _bits_after_2002),\n',
        "",
        PRINCIPALS,
    ),
    "a Teredo client is its server": broken(
        ADDRESSES, "IPv4Address(~int(address) & 0xFFFF_FFFF)", "IPv4Address(1)", PRINCIPALS
    ),
    "an IPv4 address that anybody may write counts": broken(
        ADDRESSES,
        '    (IPv6Network("2001::/32"), _teredo_client),\n',
        '    (IPv6Network("2001::/32"), _teredo_client),\n'
        '    (IPv6Network("::/0"), _last_32_bits),\n',
        PRINCIPALS,
    ),
    "an address in another is a trusted proxy": broken(
        NETWORKS,
        "    if address in _MAPPED:\n",
        '    if address in _MAPPED or address in IPv6Network("64:ff9b::/96"):\n',
        f"{PROXIES}::test_address_in_another_is_no_proxy",
    ),
    # The audit log
    "a stranger's refusals fill the disk": broken(
        SAMPLING,
        "if self._unverified <= self._rates.unverified:",
        "if True:",
        f"{SAMPLED}::test_strangers_fill_no_disk",
    ),
    "one account's refusals fill the disk": broken(
        SAMPLING,
        "if written >= self._rates.per_caller or self._verified >= self._rates.verified:",
        "if self._verified >= self._rates.verified:",
        f"{SAMPLED}::test_flood_of_one_account_and_others_beside",
    ),
    "the audit log holds every caller": broken(
        SAMPLING,
        "if written >= self._rates.per_caller or self._verified >= self._rates.verified:",
        "if written >= self._rates.per_caller:",
        f"{SAMPLED}::test_many_accounts_have_a_bound_together",
    ),
    "anonymous callers count one by one": broken(
        SAMPLING,
        'if event.subject is None or _is_visitors(event.issuer or ""):',
        "if event.subject is None:",
        f"{SAMPLED}::test_anonymous_callers_are_strangers",
    ),
    "credentials are left out of the audit log": broken(
        SAMPLING,
        "        if event.name in KEPT:\n            return True\n",
        "",
        f"{SAMPLED}::test_what_is_never_left_out",
    ),
    "what is left out is told by nobody": broken(
        AUDIT_LOG,
        "        is_told = self._append(left_out(**asdict(counts)))\n",
        "        is_told = True\n",
        f"{SAMPLED}::test_strangers_fill_no_disk",
    ),
    "a line of another shape stops the check": broken(
        "telemetry/chain.py",
        " or _misshapen(line)",
        "",
        "tests/telemetry/test_audit_log.py::test_hash_right_lines_of_another_shape",
    ),
    "a full disk forgets the count": broken(
        AUDIT_LOG,
        "                self._sampler.put_back(counts)\n",
        "                pass\n",
        f"{SAMPLED}::test_full_disk_keeps_the_count",
    ),
    "a crash hides that events were left out": broken(
        AUDIT_LOG,
        "                if self._sampler.is_leaving_out and not self._is_marked:\n",
        "                if False:\n",
        f"{SAMPLED}::test_next_minute_writes_again",
    ),
    "causes of a rule's own fill the log": broken(
        "_core/log_rate.py",
        "            if len(self._last) >= _MOST_SUBJECTS:\n                subject = _FURTHER\n",
        "            if len(self._last) >= _MOST_SUBJECTS:\n                self._last.clear()\n",
        "tests/http/test_refusal_log.py::test_causes_of_ones_own_are_bounded",
    ),
    # Visitors
    "gates on one host share a cookie": broken(
        "anonymous/cookie.py",
        "return cookie_name(is_secure, self._namespace)",
        "return cookie_name(is_secure)",
        "tests/http/test_gates_apart.py::test_cookies_of_two_gates_on_one_host",
    ),
    "captchas of all secrets are one challenge": broken(
        "anonymous/captcha.py",
        "json.dumps([self._address, self._secret, sorted(self._hostnames)])",
        "json.dumps([self._address, sorted(self._hostnames)])",
        f"{PASSED}[secret]",
    ),
    "captchas of all host names are one challenge": broken(
        "anonymous/captcha.py",
        "json.dumps([self._address, self._secret, sorted(self._hostnames)])",
        "json.dumps([self._address, self._secret])",
        f"{PASSED}[hostnames]",
    ),
    "functions of one name are one challenge": broken(
        "anonymous/admission.py",
        'return f"{named.__module__}.{named.__qualname__}"',
        "return str(named.__qualname__)",
        f"{PASSED}[module]",
    ),
    "challenges with several settings are one": broken(
        "anonymous/admission.py",
        "if isinstance(challenge, WithTerms):",
        "if False:",
        PASSED,
    ),
    # Challenges
    "the fifth behind one address is sent away": broken(
        "anonymous/admission.py",
        "            of_one_waiting=CHALLENGES_OF_ONE_WAITING,\n",
        "",
        f"{BUDGETS}::test_several_people_behind_one_address",
    ),
    "few of one address wait": broken(
        "anonymous/admission.py",
        "CHALLENGES_OF_ONE_WAITING: Final = 48",
        "CHALLENGES_OF_ONE_WAITING: Final = 16",
        f"{BUDGETS}::test_several_people_behind_one_address",
    ),
    "any number of one address wait": broken(
        "_core/single_flight.py",
        "if is_full or owned >= of_one + self._of_one_waiting:",
        "if is_full:",
        f"{BUDGETS}::test_waiting_for_ones_address_takes_no_place_of_others",
    ),
    "any number wait for their addresses": broken(
        "_core/single_flight.py",
        "if is_full or owned >= of_one + self._of_one_waiting:",
        "if owned >= of_one + self._of_one_waiting:",
        f"{BUDGETS}::test_waiting_for_ones_address_takes_no_place_of_others",
    ),
    "all of one address are asked for at once": broken(
        "_core/single_flight.py",
        "await places.acquire()",
        "pass",
        f"{BUDGETS}::test_several_people_behind_one_address",
    ),
    "first visits take places": broken(
        "anonymous/admission.py",
        "if not await _in_time(_has_answer(challenge, connection)):",
        "if False:",
        f"{BUDGETS}::test_first_visits_take_no_places",
    ),
    # Defaults
    "a conversation without max_duration has no end": broken(
        "relay/conversation.py",
        "conversation.relay.run(agent.longest_relayed)",
        "conversation.relay.run(agent.max_duration or 86_400 * 365)",
        f"{ENDS}::test_conversation_without_any_bound_ends_after_an_hour",
    ),
    "a refresh prolongs for ever": broken(
        "relay/conversation.py",
        "        conversation.live.renew(standing_of(identity), identity.expires_at)\n",
        "        conversation.live.renew(standing_of(identity), identity.expires_at)\n"
        "        conversation.live.deadlines.cancel('duration')\n"
        "        conversation.live.deadlines.last_at_most(conversation.agent.longest_relayed)\n",
        f"{ENDS}::test_refresh_prolongs_no_further_than_the_longest_time",
    ),
    "nobody says that an agent has no limit": broken(
        "endpoints/lifecycle.py",
        "        _warn_of_unlimited(core.unlimited)\n",
        "",
        f"{UNLIMITED}::test_one_line_for_each_agent_at_the_first_start",
    ),
}

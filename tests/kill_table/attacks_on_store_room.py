"""Broken variants of what refused requests may leave behind, and of outbound calls."""

from typing import Final

from .variants import DPOP, Variant, broken

BUDGETS: Final = "tests/http/test_budgets.py"
RELAY_LIMITS: Final = "tests/http/test_relay_limits.py"
VISITORS: Final = "tests/http/test_visitors.py"
MEMORY: Final = "tests/stores/test_memory_store.py"
CONTRACT: Final = f"{MEMORY}::TestMemoryStore"
MANY_AGENTS: Final = "tests/http/test_many_agents.py"
SHARES: Final = "tests/stores/test_redis_bulkhead.py::test_"
IN_REDIS: Final = "tests/stores/test_redis_store.py::TestRedisStore"

VARIANTS: Final[dict[str, Variant]] = {
    # What a refusal leaves
    "a refused account ends its visitors": broken(
        "issuing/pipeline.py",
        "    reservation = await _reserve_or_settle(pipeline, budget, context, move)\n",
        "    await merge_anonymous_usage(pipeline, agent, order)\n"
        "    reservation = await _reserve_or_settle(pipeline, budget, context, move)\n",
        f"{BUDGETS}::test_account_that_is_refused_brings_visitors_along",
    ),
    "what was given back takes up room": broken(
        "stores/memory/store.py",
        "if entry is not None and entry.is_empty:",
        "if False:",
        f"{BUDGETS}::test_whatever_refuses",
    ),
    "what was taken takes up room": broken(
        "stores/memory/entries.py",
        "            self._held[region] -= 1\n            self._removed[region] += 1\n",
        "            self._removed[region] += 1\n",
        f"{MEMORY}::test_what_was_taken_makes_room_and_leaves_nothing",
    ),
    "the heap keeps what was removed": broken(
        "stores/memory/entries.py",
        "        if not swept and (removed",
        "        if True or (removed",
        f"{MEMORY}::test_what_was_taken_makes_room_and_leaves_nothing",
    ),
    "one request goes through the whole heap": broken(
        "stores/memory/entries.py",
        "for _ in range(min(FEW, len(heap))):",
        "for _ in range(len(heap)):",
        f"{MEMORY}::test_what_was_taken_is_forgotten_a_few_at_a_time",
    ),
    "what was gone through never ends": broken(
        "stores/memory/entries.py",
        "return swept if swept and (not heap or swept[0] < heap[0]) else heap",
        "return heap",
        f"{MEMORY}::test_what_was_taken_is_forgotten_a_few_at_a_time",
    ),
    "one request removes all that ended": broken(
        "stores/memory/entries.py",
        "left = AT_ONCE if at_once is None else at_once",
        "left = inf",
        f"{MEMORY}::test_what_ended_is_removed_a_few_at_a_time",
    ),
    "what ended takes room from others": broken(
        "stores/memory/entries.py",
        "while self._lacks(region, wanted) and left and self._forget_first(region):",
        "while left < 0:",
        f"{MEMORY}::test_what_ended_is_removed_a_few_at_a_time",
    ),
    "what ended is there until it is removed": broken(
        "stores/memory/entries.py",
        "entry = place.get(key)\n"
        "        return None if entry is None or entry.ends <= self._now else entry",
        "return place.get(key)",
        f"{MEMORY}::test_what_ended_is_not_there_before_it_is_removed",
    ),
    "what was given back prolongs, in memory": broken(
        "stores/memory/store.py",
        "if last < entry.ends and entry.moved_to is None:",
        "if False:",
        f"{MEMORY}::test_what_is_given_back_prolongs_nothing",
    ),
    "what was given back prolongs, in Redis": broken(
        "stores/redis/scripts.py",
        "    if not counts[mark] then shorten(key) end\n",
        "",
        "tests/stores/test_redis_counts.py::test_what_is_given_back_prolongs_nothing",
    ),
    "any number of departures": broken(
        "anonymous/switch.py",
        'quota = Quota(field="left", most=MOST_DEPARTED,',
        'quota = Quota(field="left", most=_MANY,',
        f"{BUDGETS}::test_departures_of_one_account",
    ),
    "a full room of departures refuses": broken(
        "issuing/pipeline.py",
        '    except UnavailableError as error:\n        logger.warning("visitors:',
        '    except ZeroDivisionError as error:\n        logger.warning("visitors:',
        f"{BUDGETS}::test_departures_that_fill_their_room",
    ),
    "a refused sign-in moves, in memory": broken(
        "stores/memory/store.py",
        "                found = [_with(brought, move, one, now) for one in found]\n",
        "                self._move(move, now)\n"
        "                found = [self._found(who, quota, now) for who, quota in wanted]\n",
        f"{CONTRACT}::test_nothing_moves_where_somebody_is_refused",
    ),
    "a refused sign-in moves, in Redis": broken(
        "stores/redis/scripts.py",
        "if fits and visitor and how == 2 then move() end",
        "if visitor and taking then move() end",
        f"{IN_REDIS}::test_nothing_moves_where_somebody_is_refused",
    ),
    "moved without its mark, in Redis": broken(
        "stores/redis/scripts.py",
        "if fits and visitor and how == 2 then move() end",
        "if visitor and how == 2 then move() end",
        f"{IN_REDIS}::test_moves_only_where_all_is_taken",
    ),
    "what a visitor took counts for nobody, in Redis": broken(
        "stores/redis/scripts.py",
        "    total = total + theirs\n",
        "",
        f"{IN_REDIS}::test_visitor_who_signs_in_keeps_what_they_spent",
    ),
    "a ticket lives on where its person has no limits": broken(
        "issuing/pipeline.py",
        "    if request.visit is None or request.identity.is_anonymous:\n",
        "    if request.visit is None or request.identity.is_anonymous or not budget.counted:\n",
        f"{VISITORS}::test_ticket_ends_where_its_person_has_no_limits",
    ),
    "a door that nobody confirmed opens": broken(
        "anonymous/switch.py",
        "        if self._is_unconfirmed:  #",
        "        if False:  #",
        f"{VISITORS}::test_closing_that_fails_half_way",
    ),
    "a closing that failed overrules a later opening": broken(
        "anonymous/switch.py",
        "if opened.left < _MANY and _YEAR",
        "if False and _YEAR",
        f"{VISITORS}::test_opening_after_a_closing_that_failed",
    ),
    "any opening overrules a closing that failed": broken(
        "anonymous/switch.py",
        "_YEAR - opened.seconds + _OFF < since * (1 - _DRIFT)",
        "True",
        f"{VISITORS}::test_opening_after_a_closing_that_failed",
    ),
    "an opening is dated by the one before": broken(
        "anonymous/switch.py",
        "        await self._forget(_OPENED_LAST)\n",
        "",
        f"{VISITORS}::test_opening_after_a_closing_that_failed",
    ),
    "a door that nobody confirmed stays shut": broken(
        "anonymous/switch.py",
        "        self._is_closed = self._is_unconfirmed = False\n",
        "        self._is_closed = False\n",
        f"{VISITORS}::test_closing_that_fails_half_way",
    ),
    "a full process keeps the store's revocation from being told": broken(
        "endpoints/operators.py",
        ("    except StoreError as error:\n        logger.warning(\n"),
        ("    except ZeroDivisionError as error:\n        logger.warning(\n"),
        f"{BUDGETS}::test_revocations_that_fill_one_process",
    ),
    # Regions
    "visitors in the callers' room": broken(
        "access/limits/keys.py",
        "return Region.VISITORS if identity.is_anonymous else Region.CALLERS",
        "return Region.CALLERS",
        f"{BUDGETS}::test_visitors_shut_out_no_callers",
    ),
    "puzzles in the tickets' room": broken(
        "anonymous/proof_of_work.py",
        "self._budget.seconds, Region.PUZZLES, [budget]",
        "self._budget.seconds, Region.TICKETS, [budget]",
        f"{BUDGETS}::test_solved_puzzles_shut_out_no_others",
    ),
    "proofs in the tickets' room": broken(
        DPOP,
        'f"dpop:{_digest(once.encode())}", Region.PROOFS',
        'f"dpop:{_digest(once.encode())}", Region.TICKETS',
        f"{BUDGETS}::test_proofs_shut_out_no_others",
    ),
    "visitors' tickets in the callers' room": broken(
        "access/limits/budgets.py",
        "    Region.VISITORS_TICKETS, Limit(",
        "    Region.TICKETS, Limit(",
        f"{BUDGETS}::test_visitors_tickets_shut_out_no_others",
    ),
    "revocations in the callers' room": broken(
        "stores/memory/store.py",
        "self._entries.check_room(Region.REVOCATIONS)",
        "self._entries.check_room(Region.CALLERS)",
        f"{MEMORY}::test_what_fills_one_region_leaves_the_others_alone",
    ),
    # Budgets of one account and one address
    "any number of proofs": broken(
        DPOP,
        'put(key, b"", self._seconds, region, within)',
        'put(key, b"", self._seconds, region)',
        f"{BUDGETS}::test_proofs_of_one_account",
    ),
    "proofs of an address don't count": broken(
        DPOP,
        '                ("address", presented.address, self._of_address),\n',
        "",
        f"{BUDGETS}::test_proofs_of_one_address",
    ),
    "proofs of all tenants at an address count together": broken(
        DPOP,
        'named(region, f"{kind}:{len(issuer)}:{issuer}{one}")',
        'named(region, f"{kind}:{one}")',
        f"{BUDGETS}::test_proofs_of_others_at_one_address",
    ),
    "proofs of all verifiers at an address count together": broken(
        DPOP,
        'name = f"proofs/{self._seconds:g}/{most}"',
        'name = "proofs"',
        f"{BUDGETS}::test_proofs_of_others_at_one_address",
    ),
    "proofs of all rates at an address count together": broken(
        DPOP,
        'name = f"proofs/{self._seconds:g}/{most}"',
        'name = f"proofs/{self._seconds:g}"',
        f"{BUDGETS}::test_proofs_of_others_at_one_address",
    ),
    "proofs of some accounts fill their region": broken(
        "stores/memory/store.py",
        "dict.fromkeys((Region.PROOFS, Region.TICKETS), MOST_OF_REQUESTS)",
        "dict.fromkeys((Region.TICKETS,), MOST_OF_REQUESTS)",
        f"{BUDGETS}::test_all_that_some_accounts_may_have_leaves_room",
    ),
    "tickets of some accounts fill their region": broken(
        "stores/memory/store.py",
        "dict.fromkeys((Region.PROOFS, Region.TICKETS), MOST_OF_REQUESTS)",
        "dict.fromkeys((Region.PROOFS,), MOST_OF_REQUESTS)",
        f"{BUDGETS}::test_all_that_some_accounts_may_have_leaves_room",
    ),
    "any number of puzzles": broken(
        "anonymous/proof_of_work.py",
        "Region.PUZZLES, [budget]",
        "Region.PUZZLES",
        f"{BUDGETS}::test_puzzles_of_one_address",
    ),
    "any number of tickets at one address": broken(
        "access/limits/budgets.py",
        '    Limit("3000/minute", per="address", name="tickets per address"),\n',
        "",
        f"{BUDGETS}::test_tickets_of_one_address",
    ),
    "one too many of one owner, in memory": broken(
        "stores/memory/store.py",
        "if left < quota.amount:\n                    raise OverBudgetError",
        "if left < 0:\n                    raise OverBudgetError",
        f"{CONTRACT}::test_so_many_of_one_owner",
    ),
    "one too many of one owner, in Redis": broken(
        "stores/redis/scripts.py",
        "if total + amount > most then",
        "if total > most then",
        f"{IN_REDIS}::test_so_many_of_one_owner",
    ),
    "a replay counts as one more, in Redis": broken(
        "stores/redis/scripts.py",
        "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end\n",
        "",
        f"{IN_REDIS}::test_so_many_of_one_owner",
    ),
    # Outbound calls
    "any number of captchas": broken(
        "anonymous/admission.py",
        "_in_time(self._asking.alone(ask, self._address(connection)))",
        "_in_time(ask())",
        f"{BUDGETS}::test_made_up_answers_of_one_address",
    ),
    "captchas of one address fill the queue": broken(
        "anonymous/admission.py",
        "            of_one=CHALLENGES_OF_ONE,\n",
        "",
        f"{BUDGETS}::test_made_up_answers_of_one_address",
    ),
    "one captcha admits several": broken(
        "anonymous/admission.py",
        "self._asking.alone(ask, self._address(connection))",
        'self._asking.ask(connection.headers.get("xuna-challenge"), ask)',
        f"{BUDGETS}::test_answers_are_shared_with_nobody",
    ),
    "a challenge that failed keeps its place": broken(
        "_core/single_flight.py",
        "        self._owned[owner] -= 1\n",
        "",
        f"{BUDGETS}::test_function_of_the_users",
    ),
    "visitors' calls among the callers'": broken(
        "issuing/pipeline.py",
        "issued = await pipeline.visitors_calls.alone(",
        "issued = await pipeline.callers_calls.alone(",
        f"{BUDGETS}::test_visitors_hold_up_no_callers",
    ),
    "one account fills the callers' queue": broken(
        "issuing/pipeline.py",
        "        of_one=CALLERS_OF_ONE,\n",
        "",
        f"{BUDGETS}::test_one_caller_holds_up_no_others",
    ),
    "one address fills the visitors' queue": broken(
        "issuing/pipeline.py",
        "        of_one=VISITORS_OF_ONE,\n",
        "",
        f"{BUDGETS}::test_visitors_of_one_address_hold_up_no_others",
    ),
    "each visitor has a share of calls": broken(
        "issuing/pipeline.py",
        "owner = _address(pipeline, connection)",
        "owner = grant.identity.subject",
        f"{BUDGETS}::test_visitors_of_one_address_hold_up_no_others",
    ),
    "no end of waiting for the platform": broken(
        "issuing/pipeline.py",
        "CALL_SECONDS: Final = 15.0",
        "CALL_SECONDS: Final = 1500.0",
        f"{BUDGETS}::test_nobody_waits_for_longer_than_a_lease",
    ),
    "revoked while the platform was asked": broken(
        "issuing/pipeline.py",
        "            await look_again(reservation, budget, request.identity, pipeline.stores)\n",
        "            del budget\n",
        f"{BUDGETS}::test_revoked_while_the_platform_is_asked",
    ),
    "a store that fails in a call refuses whatever the limits say": broken(
        "access/limits/reservations.py",
        "is_closed = not limits or any(limit",
        "is_closed = not limits or all(limit",
        f"{BUDGETS}::test_store_that_fails_while_the_platform_is_asked",
    ),
    "a store that fails in a call refuses nobody": broken(
        "access/limits/reservations.py",
        "if is_closed or isinstance(error, StoreBusyError):",
        "if isinstance(error, StoreBusyError):",
        f"{BUDGETS}::test_store_that_fails_while_the_platform_is_asked",
    ),
    "revoked in this process, while the store is away": broken(
        "access/limits/reservations.py",
        "        is_revoked = await _is_revoked(identity, stores.fallback)\n",
        "        return\n",
        f"{BUDGETS}::test_store_that_fails_while_the_platform_is_asked",
    ),
    "a flood in a slow call opens limits": broken(
        "access/limits/reservations.py",
        "if is_closed or isinstance(error, StoreBusyError):",
        "if is_closed:",
        f"{BUDGETS}::test_store_that_fails_while_the_platform_is_asked",
    ),
    "callers' calls wait for connections": broken(
        "issuing/pipeline.py",
        "CALLERS_CALLS: Final = 8\n",
        "CALLERS_CALLS: Final = 64\n",
        f"{BUDGETS}::test_callers_wait_before_their_calls_time_begins",
    ),
    "visitors' calls wait for callers' connections": broken(
        "platform/rest/client.py",
        "connections=CONNECTIONS)\n        self._heeds",
        "connections=8)\n        self._heeds",
        f"{BUDGETS}::test_calls_wait_for_no_connection",
    ),
    "the store is asked twice for each": broken(
        "issuing/pipeline.py",
        "if loop.time() - began > LOOK_AGAIN_SECONDS:",
        "if loop.time() >= began:",
        f"{BUDGETS}::test_prompt_answers_cost_one_look_at_the_store",
    ),
    "a conversation begins without its slot": broken(
        "relay/conversation.py",
        "if live.is_late(began):",
        "if False:",
        f"{RELAY_LIMITS}::test_slot_that_somebody_else_may_have_had",
    ),
    "a refused conversation's lease is renewed": broken(
        "relay/live.py",
        "        await self._renew_no_more(live)\n        return await self._release(",
        "        return await self._release(",
        f"{RELAY_LIMITS}::test_conversation_that_is_refused_last_is_renewed_no_more",
    ),
    "refused callers ask for everything": broken(
        "issuing/settlement.py",
        "settled.append(await questions.alone(ask, owner))",
        "settled.append(await ask())",
        f"{BUDGETS}::test_refused_callers_hold_up_no_others",
    ),
    "refused visitors before refused callers": broken(
        "issuing/settlement.py",
        "questions, owner = self._visitors, asked",
        "questions, owner = self._callers, asked",
        f"{BUDGETS}::test_refused_ones_take_no_place_of_a_refused_caller",
    ),
    "one refused account before others": broken(
        "issuing/settlement.py",
        "REFUSED_OF_ONE: Final = 2",
        "REFUSED_OF_ONE: Final = 99",
        f"{BUDGETS}::test_refused_ones_take_no_place_of_a_refused_caller",
    ),
    "what found no place was asked for": broken(
        "issuing/settlement.py",
        "                if not has_begun:\n",
        "                if False:\n",
        f"{BUDGETS}::test_what_found_no_place_is_asked_for_at_once",
    ),
    "one caller fills what is looked at in the end": broken(
        "issuing/settlement.py",
        " or self._owned[owner] >= EXPECTED_OF_ONE",
        "",
        f"{BUDGETS}::test_unsettled_conversations_of_one_caller",
    ),
    "all latest ends at once": broken(
        "issuing/settlement.py",
        "await self._late.alone(partial(self._settle_in_time, one))",
        "await self._settle_in_time(one)",
        f"{BUDGETS}::test_unsettled_conversations_of_one_caller",
    ),
    # Shares of Redis' connections
    "visitors before operators": broken(
        "stores/redis/bulkhead.py",
        "return OPERATORS if found == {Region.SWITCHES} else CALLERS",
        "return VISITORS if found == {Region.SWITCHES} else CALLERS",
        f"{SHARES}operators_and_conversations_have_room",
    ),
    "callers before revocations": broken(
        "stores/redis/store.py",
        "await self._ask(revoking, bulkhead.OPERATORS)",
        "await self._ask(revoking, bulkhead.CALLERS)",
        f"{SHARES}operators_and_conversations_have_room",
    ),
    "a command to the store for each agent": broken(
        "issuing/pipeline.py",
        "_LIMITS_A_LOOK: Final = 256",
        "_LIMITS_A_LOOK: Final = 1",
        f"{MANY_AGENTS}::test_store_is_asked_once_for_many_agents",
    ),
    "all agents' limits in one command": broken(
        "issuing/pipeline.py",
        "_LIMITS_A_LOOK: Final = 256",
        "_LIMITS_A_LOOK: Final = 10**6",
        f"{MANY_AGENTS}::test_many_limits_in_redis",
    ),
    "many agents in one turn": broken(
        "issuing/pipeline.py",
        "        if number % _AGENTS_A_TURN == 0:\n",
        "        if False:\n",
        f"{MANY_AGENTS}::test_many_agents_leave_turns_for_others",
    ),
    "one agent's limits shown at another": broken(
        "access/limits/reservations.py",
        "tuple(islice(levels, len(quotas)))",
        "tuple(islice(levels, 1, len(quotas) + 1))",
        f"{MANY_AGENTS}::test_store_is_asked_once_for_many_agents",
    ),
    "operators' routes wait for callers": broken(
        "stores/redis/store.py",
        "        if standing is not None and standing.is_operator:\n"
        "            share = bulkhead.OPERATORS\n",
        "",
        f"{SHARES}operators_routes_have_room",
    ),
    "whoever asks for operators' routes takes their connections": broken(
        "endpoints/operators.py",
        "    refusal = await rule.refusal(identity, connection)\n",
        "    await ensure_not_revoked(identity, core.store, is_operator=True)\n"
        "    refusal = await rule.refusal(identity, connection)\n",
        f"{SHARES}callers_who_are_no_operators_ask_the_store_nothing",
    ),
    "operators wait no longer than others": broken(
        "stores/redis/bulkhead.py",
        'Share("operators", 2, 10_000, seconds=60.0)',
        'Share("operators", 2, 10_000)',
        f"{SHARES}operators_have_room_for_many_calls",
    ),
    "few operators' calls wait": broken(
        "stores/redis/bulkhead.py",
        'Share("operators", 2, 10_000, seconds=60.0)',
        'Share("operators", 2, 64, seconds=60.0)',
        f"{SHARES}operators_have_room_for_many_calls",
    ),
    "callers before what is given back": broken(
        "stores/redis/store.py",
        "share if is_operators else bulkhead.GIVING_BACK",
        "share",
        f"{SHARES}what_was_taken_is_given_back_in_a_flood",
    ),
    "what is given back waits no longer than others": broken(
        "stores/redis/bulkhead.py",
        'Share("giving back", 4, 10_000, seconds=60.0)',
        'Share("giving back", 4, 10_000)',
        f"{SHARES}all_that_was_taken_is_given_back",
    ),
    "little that is given back may wait": broken(
        "stores/redis/bulkhead.py",
        'Share("giving back", 4, 10_000, seconds=60.0)',
        'Share("giving back", 4, 1_000, seconds=60.0)',
        f"{SHARES}all_that_was_taken_is_given_back",
    ),
    "heartbeats wait with those who open conversations": broken(
        "stores/redis/store.py",
        "        return bulkhead.HEARTBEATS, None\n",
        "        return bulkhead.CONVERSATIONS, None\n",
        f"{SHARES}operators_and_conversations_have_room",
    ),
    "the only conversation's heartbeat waits with openings": broken(
        "stores/redis/store.py",
        "new = [lease for lease in leases if lease.is_new]",
        "new = [lease for lease in leases if lease.is_new or len(leases) == 1]",
        f"{SHARES}operators_and_conversations_have_room",
    ),
    "an opening is a heartbeat": broken(
        "relay/live.py",
        "await _hold(live.store, [live], is_new=True)",
        "await _hold(live.store, [live])",
        "tests/relay/test_live.py::test_only_the_first_lease_is_new",
    ),
    "openings that are given up take operators' connections": broken(
        "relay/live.py",
        "        return await self._release(live.store, live, live.slots)\n",
        "        if not await live.store.end(live.session.id):\n"
        "            return False\n"
        "        return await self._release(live.store, live, live.slots)\n",
        f"{SHARES}openings_that_are_given_up_leave_room",
    ),
    "a line for each lease that isn't released": broken(
        "relay/live.py",
        'left_out = self._lines.admit("release")',
        'left_out: str | None = ""',
        "tests/relay/test_live.py::test_leases_that_are_not_released_are_told_once_a_second",
    ),
    "leases are released among those who open conversations": broken(
        "stores/redis/store.py",
        "self._ask(letting_go, bulkhead.ENDED_CONVERSATIONS)",
        "self._ask(letting_go, bulkhead.CONVERSATIONS)",
        f"{SHARES}operators_and_conversations_have_room",
    ),
    "conversations begin among callers": broken(
        "stores/redis/store.py",
        "    return bulkhead.CONVERSATIONS, None if standing is None else standing.principal\n",
        "    return bulkhead.CALLERS, None if standing is None else standing.principal\n",
        f"{SHARES}conversations_begin_in_a_flood",
    ),
    "one account opens any number of conversations": broken(
        "stores/redis/bulkhead.py",
        'Share("conversations", 4, 1_000, 128)',
        'Share("conversations", 4, 1_000)',
        f"{SHARES}one_account_begins_so_many_conversations_at_once",
    ),
    "visitors are callers": broken(
        "stores/redis/bulkhead.py",
        "    if found & _OF_VISITORS:\n        return VISITORS\n",
        "",
        f"{SHARES}strangers_leave_room_for_callers",
    ),
    "visitors of the budget of all are callers": broken(
        "stores/redis/store.py",
        "principals.insert(0, standing.principal)",
        "pass",
        f"{SHARES}strangers_leave_room_for_callers",
    ),
    "made-up tickets before callers": broken(
        "stores/redis/store.py",
        "answer = await self._ask(getting, bulkhead.TICKETS)",
        "answer = await self._ask(getting, bulkhead.CALLERS)",
        f"{SHARES}strangers_leave_room_for_callers",
    ),
    "one account has all places": broken(
        "stores/redis/bulkhead.py",
        "if self._owned[owner] >= self._share.of_one:",
        "if False:",
        f"{SHARES}one_account_leaves_room_for_others",
    ),
    "one account asks again at once": broken(
        "stores/redis/bulkhead.py",
        "                await self._hold_refusal_back()\n",
        "",
        f"{SHARES}one_account_is_refused_after_a_while",
    ),
    "any number of refusals is held back": broken(
        "stores/redis/bulkhead.py",
        "if self._refused_later >= MOST_REFUSED_LATER:",
        "if False:",
        f"{SHARES}refusals_that_are_held_back_have_a_bound",
    ),
    "refusals that were held back are counted for ever": broken(
        "stores/redis/bulkhead.py",
        "            self._refused_later -= 1\n",
        "            pass\n",
        f"{SHARES}refusals_that_are_held_back_have_a_bound",
    ),
    "any number waits for the store": broken(
        "stores/redis/bulkhead.py",
        "if len(self._waiting) >= self._share.waiting:",
        "if False:",
        f"{SHARES}flood_opens_no_limit",
    ),
    "waiting for the store has no end": broken(
        "stores/redis/bulkhead.py",
        'turn.set_exception(self._busy(f"for {self._share.seconds:g} s"))',
        "pass",
        f"{SHARES}waiting_has_an_end",
    ),
    "a flood opens limits": broken(
        "access/limits/reservations.py",
        "if isinstance(error, StoreBusyError) or not counted:",
        "if not counted:",
        f"{SHARES}flood_opens_no_limit",
    ),
    "who waits for a store that hangs is told late": broken(
        "stores/redis/store.py",
        "            places.report_silence()\n",
        "",
        f"{SHARES}store_that_hangs_is_down_for_all_who_wait",
    ),
    "an answer that arrived is not read": broken(
        "stores/redis/store.py",
        "for _ in range(_TURNS):",
        "for _ in range(0):",
        f"{SHARES}answer_that_arrived_while_the_process_stood_still",
    ),
    "a busy process opens limits": broken(
        "stores/redis/store.py",
        "if here.answers.last > began or now - began > (1 + _BEHIND) * self._timeout:",
        "if False:",
        f"{SHARES}process_that_stood_still_is_no_store_that_is_down",
    ),
    "a gate that closes makes another deaf": broken(
        "stores/redis/store.py",
        "        self._listening.ring()",
        "        pass",
        "tests/stores/test_redis_leases.py::test_one_gate_of_two_closes",
    ),
    "each visitor closes the entrance again": broken(
        "anonymous/switch.py",
        'self._written_for_visitors.ask("close again", self._close_again)',
        "self._close_again()",
        "tests/http/test_visitors.py::test_visitors_have_the_store_told_once",
    ),
    "each visitor confirms the closing": broken(
        "anonymous/switch.py",
        'self._written_for_visitors.ask("confirm", self._confirm)',
        "self._confirm()",
        "tests/http/test_visitors.py::test_visitors_have_the_store_told_once",
    ),
    "a closed entrance opens by itself": broken(
        "anonymous/switch.py",
        '_CLOSED: Final = _mark(_PAUSED, "closed", _ALWAYS)',
        '_CLOSED: Final = _mark(_PAUSED, "closed", _YEAR)',
        "tests/http/test_visitors.py::test_closed_entrance_stays_closed",
    ),
}

"""Broken variants of the relay's frames and of the bounds on readers' work."""

from typing import Final

from .variants import Variant, broken

FRAMES: Final = "relay/frames.py"
FOLD: Final = "_core/text_fold.py"
JUDGE: Final = "relay/frame_filter.py"
READER: Final = "_core/strict_json.py"

SPELLINGS: Final = "tests/relay/test_frame_filter.py::test_second_first_frame_in_any_spelling"
UNREAD: Final = "tests/relay/test_frames_at_speed.py::test_what_passes_unread_would_pass_when_read"
NEWER: Final = "tests/http/test_relay_frames.py::test_newer_client_keeps_working"
HALVES: Final = "tests/relay/test_frame_filter.py::test_half_a_character"
SERVERS: Final = "tests/web/test_unfit_servers.py"
GUESSES: Final = "tests/relay/test_frame_filter.py::test_which_kind_counts_is_nothing_to_guess"
WORK: Final = "tests/relay/test_frame_filter.py::test_work_of_one_frame_is_bounded"
FIRST_WORK: Final = "tests/http/test_relay_frames.py::test_first_frame_that_costs_too_much"
READERS: Final = "tests/http/test_readers_work.py"

PUMPS: Final = "tests/relay/test_pumps.py"

VARIANTS: Final[dict[str, Variant]] = {
    # Frames
    "kinds with regard to case": broken(FOLD, "return text.lower()", "return text", SPELLINGS),
    "dotless i is another letter": broken(FOLD, '_Folded({ord("ı"): "i"})', "_Folded()", SPELLINGS),
    "full width is another letter": broken(
        FOLD,
        'decomposed = unicodedata.normalize("NFKD", text).casefold()\n'
        '    return unicodedata.normalize("NFKD", decomposed)',
        'decomposed = unicodedata.normalize("NFD", text).casefold()\n'
        '    return unicodedata.normalize("NFD", decomposed)',
        SPELLINGS,
    ),
    "kinds with all that is no letter": broken(
        FRAMES, '_NEITHER_LETTER_NOR_DIGIT.sub("", fold(text))', "fold(text)", SPELLINGS
    ),
    "members of a first frame in another": broken(
        FRAMES, "if not _OF_FIRST.isdisjoint(self._names):", "if False:", SPELLINGS
    ),
    "long names are not looked at": broken(
        FRAMES,
        "        return _FIRST\n",
        '        return ""\n',
        "tests/relay/test_frames_at_speed.py::test_names_without_end",
    ),
    "audio by its head": broken(
        FRAMES, "not inside.encode().translate(None, _BASE64)", "True", UNREAD
    ),
    "audio whose head is its tail": broken(
        FRAMES, "len(text) >= len(head) + len(tail) and", "", UNREAD
    ),
    "audio in any letters": broken(
        FRAMES,
        "and text.isascii()\n            return is_whole and not inside.encode()",
        '\n            return is_whole and not inside.encode("ascii", "ignore")',
        UNREAD,
    ),
    "any frame by default": broken(
        "access/relay_rules.py",
        "Collection[str] | AnyFrame = CLIENT_FRAMES",
        "Collection[str] | AnyFrame = ANY",
        NEWER,
    ),
    "undocumented frames pass": broken(JUDGE, "else Dropped(_shown(kind))", "else None", NEWER),
    "undocumented frames end it": broken(
        JUDGE,
        "return FRAME_NOT_OPEN if kind in CLIENT_FRAMES else Dropped(_shown(kind))",
        "return FRAME_NOT_OPEN",
        NEWER,
    ),
    "a second kind beside the first": broken(JUDGE, "not names.has_one_kind or (", "(", GUESSES),
    "a kind that is no text": broken(
        JUDGE, "if not isinstance(kind, str) and names.has_kind:", "if False:", GUESSES
    ),
    "a refresh in other letters": broken(
        JUDGE,
        "if names.is_refresh:",
        "if kind == REFRESH:",
        "tests/relay/test_frame_filter.py::test_refresh_in_other_letters_goes_to_nobody",
    ),
    "other frames as large as audio": broken(
        JUDGE, "size_of(text) > self._bounds.size", "False", WORK
    ),
    "a first frame as large as audio": broken(
        "relay/client.py", "if size > max_non_audio_frame:", "if False:", FIRST_WORK
    ),
    "one client's frames in one turn": broken(
        "relay/pumps.py",
        "            if turn.left < 0:\n                await turn.pass_on()\n            message",
        "            message",
        "tests/relay/test_pumps.py::test_others_have_their_turn",
    ),
    "a turn of bytes, not of work": broken(
        "relay/pumps.py",
        "(size * _PARSED if judge.has_parsed else size)",
        "size",
        "tests/relay/test_pumps.py::test_others_have_their_turn",
    ),
    "small frames cost nothing to receive": broken(
        "relay/pumps.py",
        "_EACH: Final = 2048",
        "_EACH: Final = 256",
        "tests/relay/test_pumps.py::test_others_have_their_turn",
    ),
    "half a character passes": broken(
        JUDGE, "            return ODD_TEXT\n", "            return None\n", HALVES
    ),
    "half a character ends it": broken(
        "relay/frames.py",
        "raise OddTextError(INVALID_JSON) from None",
        "raise ConversationClosedError(INVALID_JSON) from None",
        HALVES,
    ),
    "half a character excuses other faults": broken(
        READER,
        '        value = _read(raw.decode("utf-8"))\n',
        "        _refuse_odd_escapes(raw, json.loads(raw))\n"
        '        value = _read(raw.decode("utf-8"))\n'
        "    except OddEscapesError:\n        raise\n",
        f"{HALVES}_and_another_fault",
    ),
    # Servers
    "arguments of a partial hide the server": broken(
        "web/servers.py",
        "(each.func, *each.args, *each.keywords.values())",
        "(each.func,)",
        f"{SERVERS}::test_found_behind_wrappers",
    ),
    "named arguments of a partial hide the server": broken(
        "web/servers.py",
        "(each.func, *each.args, *each.keywords.values())",
        "(each.func, *each.args)",
        f"{SERVERS}::test_found_behind_wrappers",
    ),
    "an alarm for Django's apps": broken(
        "web/servers.py",
        'serves["daphne.server"] = "daphne.cli" in sys.modules',
        "pass",
        f"{SERVERS}::test_daphne_among_djangos_apps",
    ),
    "daphne's command is no alarm": broken(
        "web/servers.py",
        'serves["daphne.server"] = "daphne.cli" in sys.modules',
        'serves["daphne.server"] = False',
        f"{SERVERS}::test_daphne_among_djangos_apps",
    ),
    # Readers
    "objects and lists without number": broken(READER, "opened > bounds.containers or", "", WORK),
    "values without number": broken(
        READER, 'or opened + raw.count(b",") > bounds.values', "", WORK
    ),
    "what strings hold is counted": broken(
        READER,
        'return _holds_more(b"".join(unescaped.split(b\'"\')[::2]), bounds)',
        "return True",
        WORK,
    ),
    "an escaped quote ends a string": broken(
        READER, '.replace(b\'\\\\"\', b"")', "", f"{READERS}::test_bounds_of_the_reader"
    ),
    "texts of any size": broken(
        READER, "len(raw) > bounds.size or", "", f"{READERS}::test_bounds_of_the_reader"
    ),
    "escapes without number": broken(
        READER,
        'or raw.count(b"\\\\") > bounds.escapes',
        "",
        f"{READERS}::test_documents_have_more_room",
    ),
    "the platform's frames in one turn": broken(
        "relay/pumps.py",
        "                if turn.left < 0:\n                    await turn.pass_on()\n",
        "",
        f"{PUMPS}::test_others_have_their_turn_while_the_platform_talks",
    ),
    "refreshes in one turn": broken(
        "relay/pumps.py",
        "turn.left = -1",
        "pass",
        f"{PUMPS}::test_others_have_their_turn_between_refreshes",
    ),
    "a proof for an address of any length": broken(
        "identity/bound/request.py",
        'if len(self.scope["path"]) > _LONGEST_PATH:',
        "if False:",
        "tests/http/test_bound_tokens.py::test_longest_address",
    ),
    "a kind that is a list hides its letters": broken(
        "relay/frames.py",
        "kinds = [_texts_in(kind) for",
        "kinds = [kind if isinstance(kind, str) else str(kind) for",
        "tests/relay/test_frame_filter.py::test_second_first_frame_in_any_spelling",
    ),
    "dropped frames have a line each": broken(
        "relay/conversation.py",
        "warn=relay_context.refusals.warn,",
        "warn=logger.warning,",
        "tests/http/test_relay_frames.py::test_lines_are_paced",
    ),
    "fractions without end": broken(
        READER,
        '    if len(text) > (MAX_FLOAT if "e" in text or "E" in text else MAX_DECIMAL):',
        "    if False:",
        f"{READERS}::test_bounds_of_the_reader",
    ),
    "headers of an answer without end": broken(
        "_core/http.py",
        "if len(raw) > MAX_HEADERS:",
        "if False:",
        "tests/_core/test_outbound_http.py::test_headers_without_end",
    ),
    "chunks of an answer without end": broken(
        "_core/http.py",
        "if chunks > MAX_CHUNKS:",
        "if False:",
        "tests/_core/test_outbound_http.py::test_chunks_without_end",
    ),
    "chunks of an answer in one turn": broken(
        "_core/http.py",
        "if chunks % _CHUNKS_IN_A_TURN == 0:",
        "if False:",
        "tests/_core/test_outbound_http.py::test_chunks_without_end",
    ),
    "digits without number": broken(
        READER, "    if len(text) > MAX_DIGITS:", "    if False:", WORK
    ),
    "broken escapes of a certificate are decoded": broken(
        "identity/bound/mtls.py",
        "if _BROKEN_ESCAPE.search(escaped):",
        "if False:",
        "tests/identity/test_mtls.py::test_broken_escapes_are_not_decoded",
    ),
    "an escaped surrogate alone": broken(
        READER,
        "                text.encode()\n",
        "                pass\n",
        f"{READERS}::test_escapes",
    ),
    "an escaped surrogate in a name": broken(
        READER,
        "            left += each\n            left += each.values()",
        "            left += each.values()",
        f"{READERS}::test_escapes",
    ),
    "an escaped NUL": broken(
        READER, 'if b"\\\\u0000" in bare:', "if False:", f"{READERS}::test_escapes"
    ),
    "an exponent of any length": broken(
        "identity/jwt/_jose.py",
        "numbers.e < _RSA_EXPONENTS or",
        "numbers.e < 2**256 or",
        "tests/http/test_bad_tokens.py::test_token_of_a_bad_key_gets_the_one_401",
    ),
    "keys of any length": broken(
        "identity/jwt/_jose.py",
        "if not 0 < len(raw) <= _LONGEST_MEMBER or",
        "if not raw or",
        f"{READERS}::test_key_with_a_huge_member",
    ),
    "a key set in one turn": broken(
        "identity/keys/jwks.py",
        "        await asyncio.sleep(0)\n",
        "",
        f"{READERS}::test_other_callers_are_served_while_a_large_set_is_read",
    ),
    "documents with any number of members": broken(
        "identity/jwt/_jose.py",
        "return strict_object(raw, bounds)",
        "return strict_object(raw, bounds._replace(containers=10**6, values=10**6))",
        f"{READERS}::test_documents_of_a_provider",
    ),
    "hops without end": broken(
        "identity/client_address.py",
        "_MOST_HOPS = 32",
        "_MOST_HOPS = 10**6",
        f"{READERS}::test_hops_without_end",
    ),
    "header fields without end": broken(
        "web/requests.py",
        "return len(fields) > MAX_FIELDS or sum(",
        "return sum(",
        f"{READERS}::test_header_fields_without_end",
    ),
    "header fields of any size": broken(
        "web/requests.py",
        " or sum(map(len, chain.from_iterable(fields))) > MAX_HEADERS",
        "",
        f"{READERS}::test_header_fields_without_end",
    ),
    "header fields without end on the gate's routes": broken(
        "endpoints/routes.py",
        "                check_header_size(scope)\n",
        "",
        f"{READERS}::test_header_fields_without_end",
    ),
    "header fields without end in a preflight": broken(
        "web/cors.py",
        'if scope.get("method") != "OPTIONS" or has_large_headers(scope):',
        'if scope.get("method") != "OPTIONS":',
        f"{READERS}::test_header_fields_without_end",
    ),
    "header fields without end are read for CORS": broken(
        "web/cors.py",
        "await (app if has_large_headers(scope) else cors)(scope, receive, send)",
        "await cors(scope, receive, send)",
        f"{READERS}::test_header_fields_without_end",
    ),
    "header fields without end where a route asks": broken(
        "endpoints/callers.py",
        "        check_header_size(scope)\n        try:\n            return",
        "        try:\n            return",
        f"{READERS}::test_header_fields_without_end_elsewhere",
    ),
    "cookies without end": broken(
        "anonymous/cookie.py",
        "if sum(map(len, headers)) > _LONGEST_COOKIES:",
        "if False:",
        f"{READERS}::test_cookies_without_end",
    ),
    "cookies unquoted": broken(
        "anonymous/cookie.py",
        'return _cookie(headers.getlist("cookie"), cookie)',
        "from starlette.requests import cookie_parser\n"
        '    return cookie_parser("; ".join(headers.getlist("cookie"))).get(cookie)',
        f"{READERS}::test_cookies_are_not_unquoted",
    ),
    "a cookie by the end of its name": broken(
        "anonymous/cookie.py",
        'rf"(?:\\A|;)[ \\t]*',
        'rf"',
        f"{READERS}::test_what_is_another_cookie",
    ),
    "names in a query as they are written": broken(
        "_core/query.py",
        '"".join(f"(?:{letter}|%{_hex(letter)})" for letter in name[1:])',
        "name[1:]",
        f"{READERS}::test_long_query_of_the_app",
    ),
    "a parameter by the end of its name": broken(
        "_core/query.py",
        "{first}(?<![^&]{first})",
        "{first}",
        f"{READERS}::test_queries_are_read_as_parse_qsl_reads_them",
    ),
    "queries of any length": broken(
        "web/requests.py",
        "if len(query) > MAX_QUERY:",
        "if False:",
        f"{READERS}::test_long_query_on_the_gates_routes",
    ),
    "a token among any number of sub-protocols": broken(
        "identity/authorization_header.py",
        "if len(offered) > _MOST_OFFERED:",
        "if False:",
        "tests/http/test_subprotocol_tokens.py::test_token_among_too_many_sub_protocols",
    ),
}

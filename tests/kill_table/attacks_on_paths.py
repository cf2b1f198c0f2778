"""Broken variants of path matching and preflights."""

from typing import Final

from .variants import Variant, broken

PATHS: Final = "web/protected_paths.py"
FOLD: Final = "_core/text_fold.py"
MIDDLEWARE: Final = "middleware.py"
CORS: Final = "web/cors.py"
TESTS: Final = "tests/web/test_protected_paths.py"
AMBIGUOUS: Final = f"{TESTS}::test_an_ambiguous_path_is_refused"
ANY_READING: Final = f"{TESTS}::test_any_reading_protects"
WHOLE: Final = f"{TESTS}::test_whole_segments_protect_the_rest"
PUBLIC: Final = f"{TESTS}::test_everything_else_is_protected"
MOUNTS: Final = f"{TESTS}::test_public_with_root_paths_and_mounts"
ROOTS: Final = f"{TESTS}::test_a_root_path_that_a_stranger_wrote"
NO_RUN: Final = f"{TESTS}::test_a_preflight_never_runs_the_app"
BARE: Final = f"{TESTS}::test_the_app_may_answer_preflights_where_the_operator_says_so"

VARIANTS: Final[dict[str, Variant]] = {
    "targets that are not in origin-form": broken(PATHS, 'reading[:1] != "/"', "False", AMBIGUOUS),
    "control characters in a path": broken(PATHS, r"[\x00-\x1f\x7f-\x9f\\", r"[\\", AMBIGUOUS),
    "white space in a path": broken(PATHS, r"|[^\S ]", "", AMBIGUOUS),
    "backslashes in a path": broken(PATHS, r"\x7f-\x9f\\\ufffd", r"\x7f-\x9f\ufffd", AMBIGUOUS),
    "dot segments in a path": broken(PATHS, "or _DOTS.search(reading) is not None", "", AMBIGUOUS),
    "escapes that are left": broken(
        PATHS,
        "if decodings > MAX_DECODINGS or _is_too_long(reading) or _is_ambiguous(reading):\n"
        "                return None",
        "if _is_too_long(reading) or _is_ambiguous(reading):\n                return None\n"
        "            if decodings > MAX_DECODINGS:\n                break",
        AMBIGUOUS,
    ),
    "a path decoded once": broken(
        PATHS, "reading, decodings = _unescaped(reading), decodings + 1", "break", ANY_READING
    ),
    "raw_path not read": broken(
        PATHS,
        "return None if raw is None else raw.partition",
        "return None if True or raw is None else raw.partition",
        f"{TESTS}::test_raw_path_is_read_too",
    ),
    "raw_path looked at as plain": broken(
        PATHS,
        "and self.raw in (None, self.path.encode())",
        "",
        f"{TESTS}::test_raw_path_is_read_too",
    ),
    "the dotless i is another letter": broken(
        FOLD, '_Folded({ord("ı"): "i"})', "_Folded()", ANY_READING
    ),
    "combining marks count": broken(
        FOLD, 'if category[0] == "M" or category == "Cf":', 'if category == "Cf":', ANY_READING
    ),
    "compatibility forms count": broken(
        FOLD,
        'unicodedata.normalize("NFKD", text).casefold()',
        "text.casefold()",
        f"{TESTS}::test_fold_is_above_every_conversion[NFKC]",
    ),
    "a format suffix makes another path": broken(PATHS, "(?:[.;?#]", "(?:[;?#]", WHOLE),
    "an authority belongs to the path": broken(
        PATHS,
        "    return places | {found.end() for found in behind if found is not None}",
        "    return places",
        ANY_READING,
    ),
    "what begins alike is open": broken(
        MIDDLEWARE,
        "whole_segments=whole_segments)",
        "whole_segments=True)",
        f"{TESTS}::test_what_begins_alike_is_protected",
    ),
    "a root path is cut at the beginning only": broken(
        PATHS,
        "following.update(jump for jump in jumps if jump > found.end())",
        "pass",
        f"{TESTS}::test_mounts_that_remove_the_root_path_again",
    ),
    "a root path in the middle": broken(
        PATHS,
        "places = _without_authority(text, {0, *jumps})",
        "places = _without_authority(text, {0, *jumps[:1]})",
        f"{TESTS}::test_protected_with_and_without_root_path",
    ),
    "a mount's name is no root path": broken(
        PATHS,
        "further = _jumps(text, name.mounts) if is_cut else ()",
        "further: tuple[int, ...] | None = ()",
        f"{TESTS}::test_mounts_of_litestar_that_take_a_mounts_name_for_a_root_path",
    ),
    "only the outermost mount's name is a root path": broken(
        PATHS,
        'for word in path.split("/")[1:-1]))',
        'for word in path.split("/")[1:-1][:1]))',
        "tests/web/test_routers.py::test_no_path_in_mounts_reaches_what_is_guarded[3] "
        f"{TESTS}::test_mounts_of_litestar_that_cut_at_an_inner_name",
    ),
    "a mount's name behind a public path": broken(
        PATHS,
        "if target.cuts_again and any(view.find(mount, found.end()) >= 0 for mount in mounts):",
        "if False:",
        "tests/web/test_routers.py::test_no_path_in_mounts_reaches_what_is_guarded[2] "
        f"{TESTS}::test_public_where_a_mounts_name_stands_again",
    ),
    "a root path around the mount that a gate is in": broken(
        "middleware.py",
        "outer_roots=_roots(app_root_path),",
        "outer_roots=(),",
        f"{TESTS}::test_gate_in_a_mount_of_starlettes",
    ),
    "a mount's name within a public path": broken(
        PATHS,
        "if found is None or (target.cuts_again and repeats):",
        "if found is None:",
        "tests/web/test_routers.py::test_no_public_path_that_repeats_a_mounts_name_is_another",
    ),
    "a language's prefix is no root path": broken(
        "web/app_root_paths.py",
        "if not _has_language_prefix(patterns, resolvers):",
        "if True:",
        f"{TESTS}::test_paths_of_django_in_each_language",
    ),
    "a language's prefix within another path isn't seen": broken(
        "web/app_root_paths.py",
        '_has_language_prefix(getattr(each, "url_patterns", ()), resolvers)',
        "False",
        f"{TESTS}::test_languages_of_django_within_another_path",
    ),
    "any app of Litestar's counts as one without mounts": broken(
        "web/app_root_paths.py",
        "return not any(isinstance(route, asgi_route) for route in app.routes)",
        "return True",
        f"{TESTS}::test_public_of_litestar_with_what_may_cut_again",
    ),
    "a mount's name behind a plain public path": broken(
        PATHS,
        "self._ground_of([target.path], target)",
        "self._ground_of([target.path], target._replace(cuts_again=False))",
        f"{TESTS}::test_public_where_a_mounts_name_stands_again",
    ),
    "a public name in any letter case": broken(
        PATHS, 'if re.fullmatch("[A-Za-z0-9/._~-]", letter)', 'if letter == "/"', PUBLIC
    ),
    "a public name as clients escape it": broken(
        PATHS,
        "|(?i:{quote(letter, safe='')}))",
        ")",
        f"{TESTS}::test_public_paths_that_raw_path_has_to_escape",
    ),
    "a name that covers nothing": broken(
        PATHS,
        "any(map(_SEPARATED.search, (path, fold(path))))",
        "_SEPARATED.search(path)",
        f"{TESTS}::test_a_configured_path_has_one_reading",
    ),
    "a placeholder is taken to the letter": broken(
        PATHS,
        "if _PLACEHOLDER.search(path):",
        "if False:",
        f"{TESTS}::test_a_configured_path_is_no_pattern",
    ),
    "scopes of other types": broken(
        MIDDLEWARE,
        "elif isinstance(self._rules, Unprotected):\n            await",
        "elif True:\n            await",
        f"{TESTS}::test_a_scope_of_another_type_gets_nowhere",
    ),
    "a root path is believed under daphne": broken(
        MIDDLEWARE,
        'return "daphne.server" in sys.modules and',
        "return False and",
        f"{TESTS}::test_public_with_a_strangers_root_path",
    ),
    "one public reading is enough": broken(
        PATHS,
        "all(self._is_public(view, target) for view in views)",
        "any(self._is_public(view, target) for view in views)",
        MOUNTS,
    ),
    "segments that a mount cuts apart": broken(
        PATHS,
        "(?:{_END_OF_SEGMENT})?+{_SLASHES}",
        "{_END_OF_SEGMENT}{_SLASHES}",
        f"{TESTS}::test_segments_that_a_mount_cuts_apart",
    ),
    "a mount that leaves a name that begins like its own": broken(
        PATHS,
        'if rest.startswith("/".join(words[begin:end]))',
        "if False",
        f"{TESTS}::test_a_mounts_name_that_the_next_one_begins_with",
    ),
    "a mount that takes a letter too many": broken(
        PATHS,
        "if first.endswith(second[:shared])",
        "if False",
        f"{TESTS}::test_a_mounts_name_that_the_next_one_begins_with",
    ),
    "a path of any number of forms": broken(
        PATHS,
        "if len(found) > MAX_FORMS:",
        "if False:",
        f"{TESTS}::test_a_path_that_has_too_many_forms",
    ),
    "a root path is removed once": broken(
        PATHS,
        "while bare and text.startswith(bare, end):",
        "while False:",
        f"{TESTS}::test_protected_with_and_without_root_path",
    ),
    "letters that appear when a path is decoded": broken(
        PATHS, "or _is_too_long(reading) or", "or", AMBIGUOUS
    ),
    "more escapes than a reader can pay for": broken(
        PATHS, 'or text.count("%") > MAX_PERCENT_SIGNS', "", AMBIGUOUS
    ),
    "more readings than a reader can pay for": broken(
        PATHS, "if read > MAX_READ:", "if False:", AMBIGUOUS
    ),
    "root paths of apps within": broken(
        "web/app_root_paths.py",
        "apps = [each for each in referrers if issubclass(type(each), kinds)]",
        "apps: list[Any] = []",
        f"{TESTS}::test_root_path_of_an_app_within",
    ),
    "root paths of apps that are frozen": broken(
        "web/app_root_paths.py",
        "if gc.get_freeze_count():",
        "if False:",
        f"{TESTS}::test_root_path_of_an_app_that_is_frozen",
    ),
    "root paths of apps that are frozen before a look": broken(
        "web/app_root_paths.py",
        "held + [function.__globals__[name] for name in names]",
        "held",
        f"{TESTS}::test_an_app_that_a_function_names",
    ),
    "patterns that Django searches for": broken(
        PATHS,
        "if not searched:",
        "if True:",
        f"{TESTS}::test_patterns_of_django_that_are_searched_for",
    ),
    "patterns that Django searches for behind a public path": broken(
        PATHS,
        "if all(hit is None or hit.start() in begins for hit in hits):",
        "if True:",
        f"{TESTS}::test_public_paths_beside_patterns_that_are_searched_for",
    ),
    "patterns within patterns": broken(
        "web/app_root_paths.py",
        'yield from _searched(getattr(each, "url_patterns", ()), resolvers)',
        "pass",
        f"{TESTS}::test_public_paths_beside_patterns_that_are_searched_for",
    ),
    "one anchored alternative is enough": broken(
        "web/app_root_paths.py",
        "return all(map(_is_anchored, of[1]))",
        "return any(map(_is_anchored, of[1]))",
        f"{TESTS}::test_patterns_of_django_that_are_searched_for",
    ),
    "a URLconf that can't be loaded has no patterns": broken(
        MIDDLEWARE,
        "URLPatterns((FOUND_ANYWHERE,)) if known is None",
        "URLPatterns() if known is None",
        f"{TESTS}::test_patterns_of_django_that_cannot_be_loaded",
    ),
    "what a path was before the URLconf was loaded is remembered": broken(
        MIDDLEWARE,
        "if is_long or self._patterns is None:",
        "if is_long:",
        f"{TESTS}::test_patterns_of_django_that_can_be_loaded_later",
    ),
    "a URLconf that can't be loaded is tried at each request": broken(
        "web/app_root_paths.py",
        "if time.monotonic() < self._searched_at + _SECONDS_BETWEEN_SEARCHES:",
        "if False:",
        f"{TESTS}::test_patterns_of_django_that_can_be_loaded_later",
    ),
    "a URLconf is loaded in the event loop": broken(
        "web/app_root_paths.py",
        "await asyncio.to_thread(self._read_patterns)",
        "self._read_patterns()",
        f"{TESTS}::test_patterns_of_django_that_are_read_from_a_database",
    ),
    "patterns are held against protected paths at each path": broken(
        PATHS,
        "if searched is not self._own_of[0]:",
        "if True:",
        f"{TESTS}::test_patterns_are_held_against_protected_paths_once",
    ),
    "patterns of another app are taken for these": broken(
        PATHS,
        "if searched is not self._own_of[0]:",
        "if not self._own_of[0]:",
        f"{TESTS}::test_patterns_are_held_against_protected_paths_once",
    ),
    "patterns of Channels": broken(
        "web/app_root_paths.py",
        '("channels.routing", "URLRouter")',
        '("channels.nothing", "URLRouter")',
        f"{TESTS}::test_patterns_of_channels",
    ),
    "an app waits in vain for a preflight's client": broken(
        CORS,
        "        if not is_asked:\n",
        "        if not is_sent:\n",
        f"{TESTS}::test_an_app_that_waits_for_the_client_to_leave",
    ),
    "an app answers a preflight whenever it likes": broken(
        "web/cors.py",
        "timeout=PREFLIGHT_SECONDS, ",
        "",
        f"{TESTS}::test_app_that_does_not_answer_a_preflight",
    ),
    "an app that isn't to be cancelled holds a preflight up": broken(
        "web/cors.py",
        "        await asyncio.wait((answering, waiting), timeout=_ENDING_SECONDS)\n",
        "        await asyncio.wait((answering, waiting))\n",
        f"{TESTS}::test_app_that_does_not_answer_a_preflight",
    ),
    "what an app says after its time is sent": broken(
        "web/cors.py",
        "        is_cancelled = True\n",
        "",
        f"{TESTS}::test_app_that_does_not_answer_a_preflight",
    ),
    "a preflight runs the app": broken(
        MIDDLEWARE, 'if self._preflight == "app":', "if True:", NO_RUN
    ),
    "a preflight of any origin": broken(
        CORS, 'if headers["origin"] not in self._origins:', "if False:", NO_RUN
    ),
    "any OPTIONS request is a preflight": broken(
        CORS,
        'if scope.get("method") != "OPTIONS" or has_large_headers(scope):\n        return False',
        'if scope.get("method") == "OPTIONS":\n        return True',
        f"{TESTS}::test_what_only_looks_like_a_preflight",
    ),
    "a preflight's body goes in": broken(
        CORS,
        'return {"type": "http.request", "body": b"", "more_body": False}',
        'return {"type": "http.request", "body": b"evil", "more_body": False}',
        BARE,
    ),
    "a preflight's other headers go in": broken(
        CORS,
        'for name, value in scope["headers"] if name in _ASKING]',
        'for name, value in scope["headers"]]',
        f"{TESTS}::test_a_preflight_brings_the_app_nothing_else",
    ),
    "what a proxy says of a preflight is dropped": broken(
        CORS,
        '*(b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),',
        "",
        f"{TESTS}::test_a_preflight_brings_the_app_nothing_else",
    ),
    "a preflight's query goes in": broken(
        CORS,
        '"headers": asking, "query_string": b""}',
        '"headers": asking}',
        f"{TESTS}::test_a_preflight_brings_the_app_nothing_else",
    ),
    "the app's headers come back of a preflight": broken(
        CORS,
        'if name.lower().startswith(_OF_CORS) or name.lower() == b"vary"',
        "if name",
        BARE,
    ),
}

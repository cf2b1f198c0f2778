"""Vectors that no one here wrote: Wycheproof's JWS and JWK, and the RFCs' cookbook."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from support.signing import unb64
from support.vectors import load, path_of, verified_payload

JWS: Final = "wycheproof/json_web_signature_test.json"
JWK: Final = "wycheproof/json_web_key_test.json"
#: The eight labels below are judged for exactly this file.
JWS_SHA256: Final = "8e687a06fe8359f4ec51480f1a9f73c8faebd6f4c01b818b843b44eee54fd5d9"
#: Labels that a strict verifier can't meet, and why. The other 393 it must.
NOT_TO_BE_MET: Final = {
    **dict.fromkeys((367, 370), "labelled invalid, but to the byte what 357 labels valid"),
    **dict.fromkeys((372, 373), "labelled valid, with a question mark in a segment"),
    **dict.fromkeys((346, 350), "labelled valid, a PS256 key on a PS384 token"),
    **dict.fromkeys((347, 351), 'labelled valid, a key with the unregistered alg "ES521"'),
}


def cases(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each case with the key, or the keys, to verify it with."""
    for group in load(name)["testGroups"]:
        for case in group["tests"]:
            yield case, group.get("public", group["private"])


def agrees(case: dict[str, Any], keys: dict[str, Any]) -> bool:
    """Tell whether we see a case as its label does, and read the same octets where it is good."""
    payload = verified_payload(case["jws"], keys)
    if case["result"] == "invalid":
        return payload is None
    return payload is not None and payload == unb64(case["jws"].split(".")[1])


def test_the_file_of_signatures_is_the_one_that_was_judged() -> None:
    """Another edition of the file needs another look at the eight."""
    content = path_of(JWS).read_bytes()
    assert hashlib.sha256(content).hexdigest() == JWS_SHA256


def test_all_signatures_that_can_be_met_are_met() -> None:
    """Exactly 393 of 401, and the others are exactly the eight."""
    unmet = {case["tcId"] for case, key in cases(JWS) if not agrees(case, {"keys": [key]})}
    assert sum(1 for _ in cases(JWS)) == 401
    assert unmet == set(NOT_TO_BE_MET)


def test_all_keys_are_met() -> None:
    """All 26: mixed and ambiguous sets, weak and mislabelled keys."""
    unmet = {(case["tcId"], case["comment"]) for case, keys in cases(JWK) if not agrees(case, keys)}
    assert sum(1 for _ in cases(JWK)) == 26
    assert unmet == set()


COOKBOOK_ACCEPTED: Final = (
    *("4_1.rsa_v15_signature", "4_2.rsa-pss_signature", "4_3.ecdsa_signature"),
    *("4_4.hmac-sha2_integrity_protection", "rfc8037_ed25519"),
)
COOKBOOK_REFUSED: Final = (
    *("4_5.signature_with_detached_content", "4_6.protecting_specific_header_fields"),
    *("4_7.protecting_content_only", "4_8.multiple_signatures", "rfc7797_b64_false"),
)
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi"})


def public(key: dict[str, Any]) -> dict[str, Any]:
    """Return a published example key without its private half."""
    return {name: value for name, value in key.items() if name not in _PRIVATE}


@pytest.mark.parametrize("name", COOKBOOK_ACCEPTED)
def test_cookbook_signature_is_accepted(name: str) -> None:
    """RFC 7520 sections 4.1 to 4.4 and RFC 8037 appendix A.4, in compact form."""
    example = load(f"cookbook/{name}.json")
    keys = {"keys": [public(example["input"]["key"])]}
    payload = verified_payload(example["output"]["compact"], keys)
    assert payload == example["input"]["payload"].encode()


def renderings(example: dict[str, Any]) -> Iterator[str]:
    """Yield what a client could send of an example that is not a compact JWS in full."""
    import json

    output = example["output"]
    for value in output.values():
        yield value if isinstance(value, str) else json.dumps(value)
    for part in [output.get("json_flat", {}), *output.get("json", {}).get("signatures", [])]:
        header, signature = part.get("protected", ""), part.get("signature", "")
        yield f"{header}..{signature}"
        yield f"{header}.{example['input']['payload']}.{signature}"


@pytest.mark.parametrize("name", COOKBOOK_REFUSED)
def test_cookbook_signature_is_refused(name: str) -> None:
    """RFC 7520 sections 4.5 to 4.8 and RFC 7797: detached, JSON serialization, unencoded."""
    example = load(f"cookbook/{name}.json")
    keys = example["input"]["key"]
    members = [public(key) for key in (keys if isinstance(keys, list) else [keys])]
    tried = list(renderings(example))
    assert tried
    for token in tried:
        for member in members:
            assert verified_payload(token, {"keys": [member]}) is None


def test_detached_example_is_good_once_its_payload_is_back() -> None:
    """The control of the refusals above: it is the detachment that refuses, and not the key."""
    example = load("cookbook/4_5.signature_with_detached_content.json")
    keys = {"keys": [public(example["input"]["key"])]}
    token = f"{example['signing']['sig-input']}.{example['signing']['sig']}"
    assert verified_payload(token, keys) == example["input"]["payload"].encode()

"""The same input, the same UIDs (promise 3): the result key, and what is derived from it.

The key is a SHA-256 over what a result was made from; never over a revision number, an attempt, a clock or a row.
UIDs are `2.25.` and 128 bits (PS3.5 B.2 gives that root to 128-bit numbers), so no registration is needed.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

_BASE36: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROL_ID_LENGTH: Final = 20  # MSH-10 holds 20 characters (HL7 2.5.1, 2.14.9.10)


def _digest(*parts: object) -> bytes:
    """SHA-256 over the parts as JSON: no two lists of parts have the same text."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode("ascii")).digest()


def result_key(
    *,
    kind: str,
    study_instance_uid: str,
    instances: Sequence[tuple[str, str]],
    weights: Sequence[str],
    settings_digest: str,
    software_version: str,
    identity: str,
    status: str,
    reason_code: str = "",
    previous_key: str = "",
) -> str:
    """The key of a result, 64 hex digits: equal exactly when all parts are.

    Args:
        kind: what is made (`result`, `reading`, `withdrawal`, ...).
        instances: (SOP Instance UID, SHA-256 of the stored file) of the instances read, in any order.
        weights: digests of the weights of every model in the chain, in any order.
        settings_digest: digest of the settings that reach reading or results.
        identity: patient and order that the result will carry.
        previous_key: for a revision or withdrawal, the key of the study's previous result; else empty.
    """
    return _digest(
        "result-key-1",
        kind,
        study_instance_uid,
        sorted([list(i) for i in instances]),
        sorted(weights),
        settings_digest,
        software_version,
        identity,
        status,
        reason_code,
        previous_key,
    ).hex()


def uid(purpose: str, key: str) -> str:
    """The UID of one thing (`purpose`) in one result (`key`): 2.25. and at most 39 digits."""
    return f"2.25.{int.from_bytes(_digest('uid', purpose, key)[:16], 'big')}"


def tracking_uid(key: str, number: int) -> str:
    """The Tracking UID of the nodule `number` that result `key` is the first to show; later revisions keep it."""
    return uid(f"tracking {number}", key)


def control_id(key: str, destination: str) -> str:
    """MSH-10 of the message of result `key` to `destination`: 20 characters of [0-9A-Z]; a resend has the same."""
    number = int.from_bytes(_digest("control-id", destination, key), "big")
    characters = []
    for _ in range(_CONTROL_ID_LENGTH):
        number, digit = divmod(number, len(_BASE36))
        characters.append(_BASE36[digit])
    return "".join(characters)

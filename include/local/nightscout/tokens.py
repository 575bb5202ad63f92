"""JSON Web Tokens as Nightscout hands them out: HS256, with an expiry."""

import base64
import binascii
import hashlib
import hmac
from typing import Any

import orjson

_HEADER = {"alg": "HS256", "typ": "JWT"}


def sign(claims: dict[str, Any], key: bytes) -> str:
    """A signed token holding `claims`."""
    body = f"{_encode(orjson.dumps(_HEADER))}.{_encode(orjson.dumps(claims))}"
    return f"{body}.{_encode(_digest(body, key))}"


def verify(token: str, key: bytes, now_seconds: float) -> dict[str, Any] | None:
    """The claims of a token that this key signed and that has not expired; None for any other text."""
    body, _, signature = token.rpartition(".")
    try:
        header, claims = (orjson.loads(_decode(part)) for part in body.split("."))
        given = _decode(signature)
    except (ValueError, binascii.Error):
        return None
    if header != _HEADER or not hmac.compare_digest(given, _digest(body, key)):
        return None
    return claims if now_seconds < claims["exp"] else None


def _digest(body: str, key: bytes) -> bytes:
    return hmac.new(key, body.encode(), hashlib.sha256).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

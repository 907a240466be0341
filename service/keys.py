"""API keys: made, listed, revoked; and the ring of those that are good now.

A key is 256 random bits. Nobody can guess such a key from its hash, however fast the hash is,
so it is stored as one SHA-256: a slow hash, which passwords need, would only give a stranger
with wrong keys a way to keep the service busy.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from service.access import Scope
from service.database import Database, now
from service.errors import NotFoundError
from service.tables import ApiKey

PREFIX = "dropcast"
LONGEST_KEY = 128
# Compared with where no key has the id that was shown, so that it takes as long.
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class KnownKey:
    """A key that is good until it expires or is revoked."""

    id: str
    sha256: str
    scopes: frozenset[Scope]
    expires_at: dt.datetime | None


class KeyRing:
    """The good keys, as one moment saw them."""

    def __init__(self, keys: Iterable[KnownKey] = ()) -> None:
        self._keys: Mapping[str, KnownKey] = {key.id: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, shown: str) -> KnownKey | None:
        """The key with exactly that text, if it is good."""
        if len(shown) > LONGEST_KEY:
            return None
        known = self._keys.get(_id_of(shown))
        is_same = hmac.compare_digest(_hash(shown), known.sha256 if known else _NOBODY)
        if known is None or not is_same:
            return None
        return known if known.expires_at is None or now() < known.expires_at else None


class Keys:
    """The table of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, scopes: Collection[Scope], expires_at: dt.datetime | None
    ) -> tuple[ApiKey, str]:
        """A new key, and its text, which is nowhere else and cannot be had again."""
        key_id = secrets.token_hex(6)
        text = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            name=name,
            scopes=sorted(scopes),
            sha256=_hash(text),
            created_at=now(),
            expires_at=expires_at,
            revoked_at=None,
        )
        with self._database.write() as session:
            session.add(key)
        return key, text

    def all(self) -> list[ApiKey]:
        """Every key there ever was, newest first."""
        with self._database.read() as session:
            return list(session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at.desc())))

    def revoke(self, key_id: str) -> ApiKey:
        """Makes a key worthless, within moments in every process.

        Raises:
            NotFoundError: there is none of that id.
        """
        with self._database.write() as session:
            key = session.get(ApiKey, key_id)
            if key is None:
                raise NotFoundError(f"there is no key {key_id[:64]!r}")
            key.revoked_at = key.revoked_at or now()
        return key

    def ring(self) -> KeyRing:
        """The keys that are good now."""
        query = sa.select(ApiKey).where(ApiKey.revoked_at.is_(None))
        query = query.where(ApiKey.expires_at.is_(None) | (ApiKey.expires_at > now()))
        with self._database.read() as session:
            return KeyRing(
                KnownKey(key.id, key.sha256, frozenset(map(Scope, key.scopes)), key.expires_at)
                for key in session.scalars(query)
            )


def _id_of(shown: str) -> str:
    _, _, rest = shown.partition("_")
    return rest.partition("_")[0]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

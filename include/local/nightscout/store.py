"""What one Nightscout site holds: documents with their history, who may read them, and faults to come."""

import hashlib
import hmac
import math
import re
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from include.local.nightscout import tokens
from include.local.nightscout.faults import Fault
from include.local.nightscout.query import Condition, iso, select, sort_key, to_milliseconds

COLLECTIONS = ("entries", "treatments", "devicestatus", "profile")
TIME_FIELD = {"entries": "date", "treatments": "created_at", "devicestatus": "created_at", "profile": "startDate"}
"""The field by which API v1 orders a collection and bounds a question about it."""

JWT_SECONDS = 8 * 3600
READ_ALL = "*:*:read"

Document = dict[str, Any]
Clock = Callable[[], int]


@dataclass(frozen=True)
class Request:
    """One question and its status, 0 where the connection was reset. The query holds no secret."""

    path: str
    query: str
    status: int


class _Version(NamedTuple):
    """A document from a moment on; `document` is None where it was removed for good."""

    at: int
    document: Document | None


class _Order:
    """Documents in ascending order of several fields, and the first field's keys to look bounds up in."""

    def __init__(self, documents: Iterable[Document], fields: Sequence[str]) -> None:
        self.field, *others = fields
        keyed = [(sort_key(document.get(self.field)), document) for document in documents]
        keyed.sort(key=itemgetter(0))
        self._keys = [key for key, _ in keyed]
        self.documents = [document for _, document in keyed]
        for first, last in _runs(self._keys) if others else ():
            ties = self.documents[first:last]
            self.documents[first:last] = sorted(ties, key=lambda row: [sort_key(row.get(name)) for name in others])

    def between(self, conditions: Iterable[Condition]) -> tuple[int, int, list[Condition]]:
        """The places of the documents within the conditions' bounds, and the conditions that are still to be tried."""
        low, high, rest = 0, len(self._keys), []
        for condition in conditions:
            key = sort_key(condition.value) if condition.bounds and condition.field == self.field else None
            if key is None or key[0] not in (1, 2) or key[1] != key[1]:
                rest.append(condition)
                continue
            # Only values of the same type compare: those before and after in MongoDB's order are left out.
            low = max(low, bisect_left(self._keys, (key[0],)))
            high = min(high, bisect_left(self._keys, (key[0] + 1,)))
            cut = (bisect_left if condition.operator in ("gte", "lt") else bisect_right)(self._keys, key)
            if condition.operator in ("gt", "gte"):
                low = max(low, cut)
            else:
                high = min(high, cut)
        return low, high, rest


class View:
    """The documents of a collection during `[since, until)`, oldest first by the collection's own time."""

    def __init__(self, collection: str, documents: Iterable[Document], *, since: float, until: float) -> None:
        self.collection, self.since, self.until = collection, since, until
        by_time = (TIME_FIELD.get(collection, "date"),)
        self._by_time = _Order(documents, by_time)
        self._orders = {by_time: self._by_time}
        self.documents = self._by_time.documents

    def find(
        self,
        conditions: Sequence[Condition],
        order: Sequence[str] | None = None,
        *,
        descending: bool = False,
        skip: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """The documents that match, in ascending order of some fields or the reverse of it.

        An order is made once; bounds on its first field are looked up, and no more is read than fills the page.

        Args:
            order: fields; by default the collection's own time.
        """
        ordered = self._by_time if order is None else self._order(tuple(order))
        low, high, rest = ordered.between(conditions)
        places = range(low, high)[::-1] if descending else range(low, high)
        found = (ordered.documents[place] for place in places)
        return list(islice(select(found, rest), skip, None if limit is None else skip + limit))

    def _order(self, fields: tuple[str, ...]) -> _Order:
        if fields not in self._orders:
            self._orders[fields] = _Order(self.documents, fields)
        return self._orders[fields]

    def v1_json(self, documents: Iterable[Document]) -> bytes:
        """A list as API v1 answers it."""
        return orjson.dumps([_as_v1(self.collection, document) for document in documents])

    def v3_json(self, documents: Iterable[Document]) -> bytes:
        """A list as API v3 answers it, without its envelope."""
        return orjson.dumps([as_v3(self.collection, document) for document in documents])


class NightscoutSite:
    """One site: an empty one, until documents are added.

    Args:
        site: its id, `[a-z0-9][a-z0-9-]*`; the first part of its URL.
        time_zone: IANA name, for the sites file only: what is stored is UTC.
        units: unit of display, `mg/dl` or `mmol/l`.
        v3: whether the site has API v3. What is uploaded to one that has not carries no identifier, srvModified or
            isValid, and what is deleted there is gone.
        auth: what its connection holds, a `token` or the API `secret` (which API v3 does not take).
        secret: the API secret; from it come the token and the key of the tokens. By default made up from the id, for
            tests.
        unreadable: collections that the token may not read.
        clock: the site's time in epoch ms. With one, a change is there only from its `visible_at` on; without, every
            change is there and stamps and default windows use the machine's time.
        fill: adds the site's first documents, when somebody first asks for any.

    Raises:
        ValueError: an id, a unit, a kind of `auth` or a collection that does not exist.
    """

    def __init__(
        self,
        site: str,
        *,
        time_zone: str = "UTC",
        units: str = "mg/dl",
        v3: bool = True,
        auth: str = "token",
        secret: str | None = None,
        unreadable: Collection[str] = (),
        clock: Clock | None = None,
        fill: Callable[["NightscoutSite"], None] | None = None,
    ) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", site):
            raise ValueError(f"Site id is {site!r}; expected lower-case letters, digits and hyphens.")
        if units not in ("mg/dl", "mmol/l"):
            raise ValueError(f"Units of site {site} are {units!r}; expected mg/dl or mmol/l.")
        if auth not in ("token", "secret"):
            raise ValueError(f"Auth of site {site} is {auth!r}; expected token or secret.")
        for collection in unreadable:
            _known(collection)
        self.site, self.time_zone, self.units, self.v3, self.auth = site, time_zone, units, v3, auth
        self.unreadable = frozenset(unreadable)
        self.clock = clock
        self.jwt_seconds = JWT_SECONDS
        self.secret = secret or f"only-for-tests-{site}"
        if len(self.secret) < 12:
            raise ValueError(f"The secret of site {site} is too short; Nightscout asks for 12 characters.")
        self.secret_sha1 = hashlib.sha1(self.secret.encode(), usedforsecurity=False).hexdigest()
        digest = hmac.new(self.secret.encode(), b"reader", hashlib.sha1).hexdigest()
        self.token = f"reader-{digest[:16]}"
        self.requests: deque[Request] = deque(maxlen=10_000)
        self._jwt_key = hmac.new(self.secret.encode(), b"jwt", hashlib.sha256).digest()
        self._held: dict[str, dict[str, list[_Version]]] = {name: {} for name in COLLECTIONS}
        self._fill = fill
        self._views: dict[str, View] = {}
        self._faults: list[Fault] = []
        self._served: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"NightscoutSite({self.site!r})"

    @property
    def credential(self) -> str:
        """What the site's connection holds as its password."""
        return self.token if self.auth == "token" else self.secret

    def now(self) -> int:
        """The site's time, epoch ms."""
        return self.clock() if self.clock else time.time_ns() // 1_000_000

    # Documents

    def add(self, collection: str, document: Mapping[str, Any], *, visible_at: int | None = None) -> str:
        """Upload a document as it is; fields that the server would set are set where they are missing.

        Returns:
            Its id: `identifier` on a site with API v3, else `_id`.
        """
        at = self.now() if visible_at is None else visible_at
        with self._lock:
            records = self._records(_known(collection))
            stored = dict(document)
            if not stored.get("_id"):
                text = f"{self.site}/{collection}/{len(records)}/{orjson.dumps(document, default=str).hex()}"
                stored["_id"] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:24]
            if self.v3:
                _stamp(collection, stored, at)
            key = stored["identifier"] if self.v3 else stored["_id"]
            if key in records:
                raise ValueError(f"Site {self.site} already holds {key} in {collection}; edit it instead.")
            records[key] = [_Version(at, stored)]
            self._views.pop(collection, None)
        return key

    def edit(self, collection: str, key: str, changes: Mapping[str, Any], *, visible_at: int | None = None) -> Document:
        """Change fields of a document; a value of None stays as null. Returns what is stored now."""
        return self._change(collection, key, lambda document: document | changes, visible_at)

    def delete(self, collection: str, key: str, *, visible_at: int | None = None) -> None:
        """Mark a document as deleted, or forget it where there is no API v3."""
        if self.v3:
            gone = {"isValid": False, "modifiedBy": "reader"}
            self._change(collection, key, lambda document: document | gone, visible_at)
        else:
            self._change(collection, key, lambda document: None, visible_at)

    def documents(self, collection: str) -> list[Document]:
        """What a reader should find now, oldest first: copies of the documents that are not deleted."""
        held = self.view(_known(collection)).documents
        return orjson.loads(orjson.dumps([document for document in held if document.get("isValid") is not False]))

    def get(self, collection: str, key: str) -> Document | None:
        """A document by the id that `add` returned, deleted or not, as it is now."""
        with self._lock:
            return _current(self._records(_known(collection)).get(key, []), self._horizon()).document

    def view(self, collection: str) -> View:
        """The collection as it is now; made again after a change, or when the clock reaches one."""
        with self._lock:
            view, now = self._views.get(collection), self._horizon()
            if view is None or not view.since <= now < view.until:
                records = self._records(collection).values()
                current = [_current(versions, now) for versions in records]
                moments = [version.at for versions in records for version in versions] if self.clock else []
                view = View(
                    collection,
                    [version.document for version in current if version.document is not None],
                    since=max((at for at in moments if at <= now), default=-math.inf),
                    until=min((at for at in moments if at > now), default=math.inf),
                )
                self._views[collection] = view
            return view

    def _records(self, collection: str) -> dict[str, list[_Version]]:
        with self._lock:
            if self._fill is not None:
                fill, self._fill = self._fill, None
                fill(self)
            return self._held.get(collection, {})

    def _horizon(self) -> int:
        """The moment whose state is shown: without a clock, later than any."""
        return self.clock() if self.clock else sys.maxsize

    def _change(
        self,
        collection: str,
        key: str,
        change: Callable[[Document], Document | None],
        visible_at: int | None,
    ) -> Document:
        at = self.now() if visible_at is None else visible_at
        with self._lock:
            versions = self._records(_known(collection)).get(key)
            if not versions or versions[-1].document is None:
                raise KeyError(f"Site {self.site} holds no {key} in {collection}.")
            if at < versions[-1].at:
                raise ValueError(f"{key} of site {self.site} already changed after {iso(at)}.")
            changed = change(versions[-1].document)
            if changed is not None and "srvModified" in versions[-1].document:
                changed["srvModified"] = at
            versions.append(_Version(at, changed))
            self._views.pop(collection, None)
        return changed or {}

    # Who may read

    def issue_jwt(self, token: str) -> Document | None:
        """The answer to a request for a JSON Web Token; None if the access token is not this site's."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        issued = self.now() // 1000
        claims = {"accessToken": self.token, "iat": issued, "exp": issued + self.jwt_seconds}
        groups = [sorted(self._permissions())] if self.unreadable else [[READ_ALL]]
        signed = tokens.sign(claims, self._jwt_key)
        return {"token": signed, "sub": "reader", "permissionGroups": groups, "iat": issued, "exp": claims["exp"]}

    def accepts_jwt(self, text: str) -> bool:
        """Whether this site issued the token and it has not expired."""
        claims = tokens.verify(text, self._jwt_key, self.now() / 1000)
        return claims is not None and claims.get("accessToken") == self.token

    def accepts_secret(self, text: str) -> bool:
        """Whether the text is the API secret's SHA-1 in hexadecimal, as the `api-secret` header has it."""
        return hmac.compare_digest(text.lower().encode(), self.secret_sha1.encode())

    def may_read(self, collection: str, *, admin: bool) -> bool:
        return admin or collection not in self.unreadable

    def _permissions(self) -> list[str]:
        return [f"api:{name}:read" for name in (*COLLECTIONS, "food", "status") if name not in self.unreadable]

    # Faults

    def fail(self, *faults: Fault) -> None:
        """Let faults befall the next requests, in this order."""
        with self._lock:
            self._faults.extend(faults)

    def heal(self) -> None:
        """Forget every fault that is still to come."""
        with self._lock:
            self._faults.clear()

    def take_fault(self, path: str) -> Fault | None:
        """The fault that befalls this request, if any; it is used up by one."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.path in path:
                    if fault.count == 1:
                        del self._faults[index]
                    elif fault.count is not None:
                        self._faults[index] = replace(fault, count=fault.count - 1)
                    return fault
        return None

    def previous_page(self, collection: str, page: Any) -> Any:
        """What this collection answered before, or `page` if it has not answered yet."""
        with self._lock:
            return self._served.setdefault(collection, page)

    def remember_page(self, collection: str, page: Any) -> None:
        """Keep an answer for `previous_page`."""
        with self._lock:
            self._served[collection] = page


def as_v3(collection: str, document: Document) -> Document:
    """A stored document as API v3 shows it: `identifier` for `_id`, and server times for what API v1 uploaded."""
    shown = document.copy()
    stored_id = shown.pop("_id", None)
    shown.setdefault("identifier", stored_id)
    if not shown.get("srvModified"):
        moment = to_milliseconds(str(document.get("date" if collection == "entries" else "created_at", "")))
        if moment is not None:
            shown["srvModified"] = moment
    if shown.get("srvModified"):
        shown.setdefault("srvCreated", shown["srvModified"])
    return shown


def _as_v1(collection: str, document: Document) -> Document:
    if collection != "treatments":
        return document
    # Upstream passes both through Number(), which turns a missing one into null.
    return {"insulin": None, "carbs": None} | document


def _stamp(collection: str, stored: Document, at: int) -> None:
    raw = hashlib.sha1(f"{collection}/{stored['_id']}".encode(), usedforsecurity=False).hexdigest()
    stored.setdefault("identifier", f"{raw[:8]}-{raw[8:12]}-5{raw[13:16]}-a{raw[17:20]}-{raw[20:32]}")
    date = stored.get("date")
    if date is None and isinstance(stored.get("created_at"), str):
        date = to_milliseconds(stored["created_at"])
        if date is not None:
            stored["date"] = date
    if isinstance(date, int):
        stored.setdefault("created_at", iso(date))
    stored.setdefault("utcOffset", 0)
    stored.setdefault("isValid", True)
    stored.setdefault("srvCreated", at)
    stored.setdefault("srvModified", at)


def _current(versions: list[_Version], horizon: int) -> _Version:
    return next((version for version in reversed(versions) if version.at <= horizon), _NOTHING)


def _runs(keys: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """First and end of each run of equal keys that is longer than one."""
    first = 0
    for place in range(1, len(keys) + 1):
        if place == len(keys) or keys[place] != keys[first]:
            if place - first > 1:
                yield first, place
            first = place


def _known(collection: str) -> str:
    if collection not in COLLECTIONS:
        raise ValueError(f"Collection is {collection!r}; expected one of {', '.join(COLLECTIONS)}.")
    return collection


_NOTHING = _Version(0, None)

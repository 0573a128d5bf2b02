"""The queue: what goes over it, and how it is put there. JSON, never pickle; one round trip."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, cast
from uuid import uuid4

import msgspec
from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms, to_unix_ms
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import NoScriptError

WAKE = "rollcall:wake"  # a message is the id of a job to start, or empty: look at the queue
BATCH = 500


# What goes over the queue


def _described(value: object) -> object:
    """What msgspec cannot write: an error as its type and message, anything else by its repr."""
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": _text(value, str)}
    return _text(value, repr)


def _text(value: object, write: Callable[[object], str]) -> str:
    try:
        return write(value).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a broken __repr__ must not lose the result around it
        return f"<{type(value).__name__}>"


def _plain(value: object) -> object:
    """`value` in nothing but JSON's own types, for what even the encoder refuses as a whole."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _text(value, str)
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {_text(key, str): _plain(item) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in cast("Iterable[object]", value)]
    return _described(value)


_strict = msgspec.json.Encoder()
_lenient = msgspec.json.Encoder(enc_hook=_described)


def dumps(message: dict[str, Any]) -> bytes:
    """A job or a result as JSON, never pickle.

    A result is always written, whatever a job returned or raised: an exception becomes
    `{"error": type, "message": text}`, an unknown type its repr. A job with arguments which are
    not JSON raises TypeError instead: a guess there would run the wrong thing.
    """
    if "r" not in message:  # arq's key of a result
        return _strict.encode(message)
    try:
        return _lenient.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(_plain(message)).encode()


def loads(data: bytes) -> dict[str, Any]:
    """Read what `dumps` wrote. Raises msgspec.DecodeError for anything else, pickle above all."""
    return msgspec.json.decode(data, type=dict[str, Any])


# The pool


def redis_pool(
    url: str,
    *,
    ssl_cert_reqs: Literal["required", "none"] = "required",
    max_connections: int = 50,
    timeout: float = 5.0,
) -> ArqRedis:
    """A client for `redis://`, `rediss://` or `unix://`; opens nothing until it is used.

    More than `max_connections` callers wait for each other. `timeout`: seconds for connecting and
    for each answer. `ssl_cert_reqs="none"` accepts a self-signed certificate (Heroku's).
    """
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    if url.startswith("rediss://"):
        options["ssl_cert_reqs"] = ssl_cert_reqs
        options["ssl_check_hostname"] = ssl_cert_reqs == "required"
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        url, max_connections=max_connections, timeout=20, **options
    )
    return ArqRedis(pool, job_serializer=dumps, job_deserializer=loads)


class Wire(Protocol):
    """redis-py's PubSub, as far as it is used here, with types."""

    async def subscribe(self, channel: str) -> None: ...
    async def get_message(self, *, timeout: float) -> dict[str, Any] | None: ...  # noqa: ASYNC109 - redis-py's
    async def ping(self) -> None: ...


class Server(Protocol):
    """redis-py's client, as far as it is used here, with types."""

    async def evalsha(self, sha: str, numkeys: int, *args: str | bytes | float) -> Any: ...
    async def eval(self, script: str, numkeys: int, *args: str | bytes | float) -> Any: ...
    async def publish(self, channel: str, message: str) -> int: ...
    def pubsub(self) -> contextlib.AbstractAsyncContextManager[Wire]: ...


class Script:
    """A Lua script on one key, the queue; sent by its hash, and in full to a server new to it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: ArqRedis, queue: str, *args: str | bytes | float) -> Any:
        server = cast("Server", redis)
        try:
            return await server.evalsha(self.sha, 1, queue, *args)
        except NoScriptError:
            return await server.eval(self.text, 1, queue, *args)


# Writes each job that is not there yet and says so on the channel; 1 or 0 for each.
# A key without its queue entry, or the other way round, is half a job: it is made whole.
ENQUEUE = Script("""
local done = {}
for i = 4, #ARGV, 4 do
  local id, score, expires, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local queued = redis.call('ZSCORE', KEYS[1], id) and redis.call('EXISTS', ARGV[2] .. id) == 1
  local fresh = not queued and redis.call('EXISTS', ARGV[3] .. id) == 0
  if fresh then
    redis.call('SET', ARGV[2] .. id, payload, 'PX', expires)
    redis.call('ZADD', KEYS[1], score, id)
    if #ARGV == 7 then redis.call('PUBLISH', ARGV[1], id) end
  end
  done[#done + 1] = fresh and 1 or 0
end
if #ARGV > 7 then redis.call('PUBLISH', ARGV[1], '') end
return done
""")


# Enqueueing

Wanted = tuple[str, Sequence[object], str]  # function, arguments, job id


async def enqueue(
    redis: ArqRedis,
    function: str,
    *args: object,
    job_id: str | None = None,
    defer_until: datetime | None = None,
    queue: str | None = None,
) -> bool:
    """Queue one job and wake the workers, in one round trip.

    False if there is a job, or a kept result, of that id. A deferred job starts at its instant
    (aware datetime). Raises arq's SerializationError for arguments that are not JSON.
    """
    wanted = (function, args, job_id or uuid4().hex)
    due = None if defer_until is None else to_unix_ms(defer_until)
    return (await _send(redis, queue, [_entry(redis, wanted, due)]))[0]


async def enqueue_many(
    redis: ArqRedis,
    wanted: Iterable[Wanted],
    *,
    defer_until: datetime | None = None,
    queue: str | None = None,
) -> list[bool]:
    """Queue jobs in bulk, 500 to a round trip; for each, in order, what `enqueue` would say."""
    due = None if defer_until is None else to_unix_ms(defer_until)
    entries = [_entry(redis, one, due) for one in wanted]
    answers: list[bool] = []
    for start in range(0, len(entries), BATCH):
        answers += await _send(redis, queue, entries[start : start + BATCH])
    return answers


def _entry(redis: ArqRedis, wanted: Wanted, due_ms: int | None = None) -> list[str | bytes | int]:
    function, args, job_id = wanted
    now = timestamp_ms()
    score = now - 1 if due_ms is None else due_ms  # due at once, however the clock was rounded
    payload = serialize_job(function, tuple(args), {}, None, now, serializer=redis.job_serializer)
    return [job_id, score, max(score - now, 0) + redis.expires_extra_ms, payload]


async def _send(
    redis: ArqRedis, queue: str | None, entries: list[list[str | bytes | int]]
) -> list[bool]:
    flat = [part for entry in entries for part in entry]
    prefixes = (job_key_prefix, result_key_prefix)
    answers = await ENQUEUE(redis, queue or redis.default_queue_name, WAKE, *prefixes, *flat)
    return [answer == 1 for answer in answers]

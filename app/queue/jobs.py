"""arq's queue: JSON serialisation (never pickle), the Redis client, enqueueing."""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, cast
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import msgspec
from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import NoScriptError

WAKE_CHANNEL = (
    "rollcall:wake"  # channel; a message is the id of a job to start, or empty: scan the queue
)
BATCH_SIZE = 500


# Serialisation


def _encode_unknown(value: object) -> object:
    """Encode what msgspec cannot: an exception as type and message, anything else as its repr."""
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": _safe_text(value, str)}
    return _safe_text(value, repr)


def _safe_text(value: object, write: Callable[[object], str]) -> str:
    try:
        return write(value).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a broken __repr__ must not lose the whole result
        return f"<{type(value).__name__}>"


def _to_json_types(value: object) -> object:
    """`value` converted to JSON's own types, for values that the encoder refuses."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _safe_text(value, str)
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return {_safe_text(key, str): _to_json_types(item) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json_types(item) for item in cast("Iterable[object]", value)]
    return _encode_unknown(value)


_strict = msgspec.json.Encoder()
_lenient = msgspec.json.Encoder(enc_hook=_encode_unknown)


def dumps(message: dict[str, Any]) -> bytes:
    """Serialise an arq job or result as JSON.

    A result is always serialised, whatever the task returned or raised: an exception becomes
    `{"error": type, "message": text}`, an unknown type its repr. Raises TypeError for a job whose
    arguments are not JSON: a converted argument could execute the wrong thing.
    """
    if "r" not in message:  # arq's key for a result
        return _strict.encode(message)
    try:
        return _lenient.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(_to_json_types(message)).encode()


def loads(data: bytes) -> dict[str, Any]:
    """Deserialise what `dumps` or Python's json wrote, which has NaN and infinities.

    Raises msgspec.DecodeError for anything else.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError:
        with contextlib.suppress(ValueError):
            plain: object = json.loads(data)
            if isinstance(plain, dict):
                return cast("dict[str, Any]", plain)
        raise


# Redis client


def redis_pool(
    url: str,
    *,
    ssl_cert_reqs: Literal["required", "none"] = "required",
    max_connections: int = 50,
    timeout: float = 5.0,
) -> ArqRedis:
    """A pooled client for `redis://`, `rediss://` or `unix://`; connects on first use.

    Callers beyond `max_connections` wait for a connection. `timeout`: seconds for connecting and
    for each response. `ssl_cert_reqs="none"` accepts a self-signed certificate (Heroku's).
    An option of that name in the URL has precedence.
    """
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    if url.startswith("rediss://"):
        required = dict(parse_qsl(urlsplit(url).query)).get("ssl_cert_reqs", ssl_cert_reqs)
        options["ssl_cert_reqs"] = ssl_cert_reqs
        options["ssl_check_hostname"] = required == "required"
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        url, max_connections=max_connections, timeout=20, **options
    )
    return ArqRedis(pool, job_serializer=dumps, job_deserializer=loads)


class PubSub(Protocol):
    """The part of redis-py's PubSub that is used here, typed."""

    async def subscribe(self, channel: str) -> None: ...
    async def get_message(self, *, timeout: float) -> dict[str, Any] | None: ...  # noqa: ASYNC109 - redis-py's
    async def ping(self) -> None: ...


class RedisClient(Protocol):
    """The part of redis-py's client that is used here, typed."""

    async def evalsha(self, sha: str, numkeys: int, *args: str | bytes | float) -> Any: ...
    async def eval(self, script: str, numkeys: int, *args: str | bytes | float) -> Any: ...
    async def publish(self, channel: str, message: str) -> int: ...
    def pubsub(self) -> contextlib.AbstractAsyncContextManager[PubSub]: ...


class Script:
    """A Lua script with one key, the queue; called by hash, or in full if the server lacks it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: ArqRedis, queue: str, *args: str | bytes | float) -> Any:
        server = cast("RedisClient", redis)
        try:
            return await server.evalsha(self.sha, 1, queue, *args)
        except NoScriptError:
            return await server.eval(self.text, 1, queue, *args)


# Adds each job that is not queued yet and announces it on the channel, unless that is ''. ARGV:
# channel, prefixes of job and result keys; then for each job: id, delay (ms), TTL (ms), payload.
# Returns 1 or 0 for each. Scores are written and read by the server's clock only, because the
# clocks of machines differ.
# A job key without its queue entry, or the reverse, counts as not queued and is written again.
ENQUEUE = Script("""
local done, time = {}, redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
for i = 4, #ARGV, 4 do
  local id, delay, expires, payload = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local score = delay > 0 and math.ceil(now + delay) or math.floor(now) - 1
  local queued = redis.call('ZSCORE', KEYS[1], id) and redis.call('EXISTS', ARGV[2] .. id) == 1
  local is_new = not queued and redis.call('EXISTS', ARGV[3] .. id) == 0
  if is_new then
    redis.call('SET', ARGV[2] .. id, payload, 'PX', expires)
    redis.call('ZADD', KEYS[1], score, id)
    if #ARGV == 7 and ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], id) end
  end
  done[#done + 1] = is_new and 1 or 0
end
if #ARGV > 7 and ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], '') end
return done
""")


# Enqueueing

ArqJobRequest = tuple[str, Sequence[object], str]  # function, arguments, job id


async def enqueue(
    redis: ArqRedis,
    function: str,
    *args: object,
    job_id: str | None = None,
    defer_by: float = 0.0,
    queue: str | None = None,
) -> bool:
    """Enqueue one arq job and wake the workers, in one round trip.

    Returns False if a job or a kept result of that id exists. The job starts in `defer_by`
    seconds. Raises arq's SerializationError for arguments that are not JSON.
    """
    job = (function, args, job_id or uuid4().hex)
    return (await _send(redis, queue, [_entry(redis, job, defer_by)]))[0]


async def enqueue_many(
    redis: ArqRedis,
    jobs: Iterable[ArqJobRequest],
    *,
    defer_by: float = 0.0,
    queue: str | None = None,
) -> list[bool]:
    """Enqueue arq jobs, 500 per round trip; returns for each, in order, what `enqueue` would."""
    entries = [_entry(redis, job, defer_by) for job in jobs]
    answers: list[bool] = []
    for start in range(0, len(entries), BATCH_SIZE):
        answers += await _send(redis, queue, entries[start : start + BATCH_SIZE])
    return answers


async def enqueue_crons(
    redis: ArqRedis, queue: str, jobs: Iterable[tuple[str, str, float]]
) -> None:
    """Enqueue cron jobs, given as (name, job id, seconds from now), without waking workers."""
    entries = [_entry(redis, (name, (), job_id), seconds) for name, job_id, seconds in jobs]
    if entries:
        await _send(redis, queue, entries, channel="")


def _entry(redis: ArqRedis, job: ArqJobRequest, defer_by: float) -> list[str | bytes | float]:
    function, args, job_id = job
    payload = serialize_job(
        function, tuple(args), {}, None, timestamp_ms(), serializer=redis.job_serializer
    )
    delay = max(defer_by * 1000, 0.0)
    return [job_id, delay, math.ceil(delay) + redis.expires_extra_ms, payload]


async def _send(
    redis: ArqRedis,
    queue: str | None,
    entries: list[list[str | bytes | float]],
    channel: str = WAKE_CHANNEL,
) -> list[bool]:
    flat = [part for entry in entries for part in entry]
    prefixes = (job_key_prefix, result_key_prefix)
    answers = await ENQUEUE(redis, queue or redis.default_queue_name, channel, *prefixes, *flat)
    return [answer == 1 for answer in answers]

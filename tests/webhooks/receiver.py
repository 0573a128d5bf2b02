"""A receiver of webhooks that keeps requests, checks signatures and answers as configured."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from scripts.tcp_server import tcp_server

HANG = 0  # instead of a status: never answer
NO_BODY = -1  # 200 and the length of a body that never comes


@dataclass(frozen=True, slots=True)
class Message:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Whether the signature is that of the standard, computed independently."""
        key = base64.b64decode(secret.partition("_")[2])
        text = b".".join([self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body])
        signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return self.headers["webhook-signature"].split(" ") == [f"v1,{signature}"]


@dataclass(slots=True)
class Receiver:
    """What came so far. `answers`: statuses by path; then, and for others, 200."""

    port: int = 0
    answers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    always: dict[str, int] = field(default_factory=dict[str, int])
    messages: list[Message] = field(default_factory=list[Message])

    def url(self, path: str = "/in") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str = "/in") -> list[Message]:
        return [message for message in self.messages if message.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        path = first.split(" ")[1]
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        queue = self.answers.get(path, [])
        status = queue.pop(0) if queue else self.always.get(path, 200)
        self.messages.append(Message(path, headers, body))
        if status == NO_BODY:
            writer.write(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n")
        if status in (HANG, NO_BODY):
            await reader.read()
        else:
            location = "location: http://127.0.0.1:1/\r\n" if status == 302 else ""
            answer = f"HTTP/1.1 {status} x\r\n{location}content-length: 0\r\n\r\n"
            writer.write(answer.encode())
            await writer.drain()


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver()
    async with tcp_server(receiver.serve) as receiver.port:
        yield receiver

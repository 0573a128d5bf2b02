"""Faults on demand: which requests go wrong, and how. The same requests for the same seed."""

from typing import Literal
from urllib.parse import unquote

import msgspec

from scripts.standin.wire import Request
from scripts.standin.world import View, roll

Kind = Literal[
    "status",
    "delay",
    "reset",
    "empty",
    "html",
    "stale",
    "partial",
    "bizcode",
    "non_json",
    "retry_after",
    "slow_body",
    "truncated",
]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong with requests whose path starts with `path` and whose query has `match`.

    `share` of them, at most `times` (None: for ever). `status` and `code` (AskNews' own error
    code) are those of an error answer, `seconds` the length of a delay or a slow body,
    `retry_after` the header's value. `stale` shows the world as it was when the fault was added.
    """

    path: str
    kind: Kind
    match: str = ""
    status: int | None = None
    seconds: float = 2.0
    share: float = 1.0
    times: int | None = None
    retry_after: str = "5"
    code: int | None = None


def _asks(request: Request, text: str) -> bool:
    return text in request.query or text in unquote(request.query)


class _Rule:
    def __init__(self, fault: Fault, number: int, view: View) -> None:
        self.fault = fault
        self.number = number
        self.view = view
        self.seen = 0
        self.done = 0


class Faults:
    """The faults that stand. The first that strikes a request is the only one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[_Rule] = []
        self._added = 0

    def add(self, fault: Fault, view: View) -> None:
        """Let a fault stand from now on."""
        self._rules.append(_Rule(fault, self._added, view))
        self._added += 1

    def clear(self) -> None:
        """Let every request succeed again."""
        self._rules.clear()
        self._added = 0

    def strike(self, request: Request) -> tuple[Fault, View] | None:
        """The fault that befalls this request, and the world's view when that fault was added."""
        for rule in self._rules:
            if self._strikes(rule, request):
                rule.done += 1
                return rule.fault, rule.view
        return None

    def _strikes(self, rule: _Rule, request: Request) -> bool:
        fault = rule.fault
        if fault.times is not None and rule.done >= fault.times:
            return False
        if not request.path.startswith(fault.path) or not _asks(request, fault.match):
            return False
        rule.seen += 1
        return roll(self._seed, "fault", rule.number, rule.seen) < fault.share

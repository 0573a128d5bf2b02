"""Injected faults: which requests fail, and how. Deterministic for a seed."""

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
    """A fault for requests whose path starts with `path` and whose query contains `match`.

    It affects a `share` of them, at most `times` (None: no limit). `status` and `code` (AskNews'
    own error code) are those of an error response, `seconds` the length of a delay or a slow body,
    `retry_after` the header's value. `stale` serves the data of when the fault was added.
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


def _matches(request: Request, text: str) -> bool:
    return text in request.query or text in unquote(request.query)


class _Rule:
    def __init__(self, fault: Fault, number: int, view: View) -> None:
        self.fault = fault
        self.number = number
        self.view = view
        self.seen = 0
        self.applied = 0


class Faults:
    """The active faults. At most the first that matches is applied to a request."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: list[_Rule] = []
        self._added = 0

    def add(self, fault: Fault, view: View) -> None:
        """Activate a fault."""
        self._rules.append(_Rule(fault, self._added, view))
        self._added += 1

    def clear(self) -> None:
        """Remove all faults."""
        self._rules.clear()
        self._added = 0

    def apply(self, request: Request) -> tuple[Fault, View] | None:
        """Return the fault for this request and the view when it was added, or None."""
        for rule in self._rules:
            if self._applies(rule, request):
                rule.applied += 1
                return rule.fault, rule.view
        return None

    def _applies(self, rule: _Rule, request: Request) -> bool:
        fault = rule.fault
        if fault.times is not None and rule.applied >= fault.times:
            return False
        if not request.path.startswith(fault.path) or not _matches(request, fault.match):
            return False
        rule.seen += 1
        return roll(self._seed, "fault", rule.number, rule.seen) < fault.share

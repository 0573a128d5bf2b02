"""What an action did, as the address of the page to which it leads says. Pure."""

from collections.abc import Collection, Mapping
from urllib.parse import urlencode

_MAX_DIGITS = 4

_DONE = {
    "paused": "Paused. Its ticks are recorded as skipped until it is resumed.",
    "resumed": "Resumed.",
    "paused_before": "Nothing was changed: it was paused already, for the reason that is shown."
    " Resume it to pause it for another.",
    "not_paused": "Nothing was changed: it was not paused.",
    "open_run": "No run was requested: this one is open, and a collection has one at a time.",
    "backfill": "Requested. The workers go on with it.",
    "no_backfill": "Nothing was requested: each of these ticks has a run.",
    "acknowledge": "Acknowledged: no reminder is sent until it recovers or gets worse.",
    "snooze": "Snoozed: no reminder is sent until then, unless it gets worse.",
    "release": "Reminders are sent again.",
    "stopped": "Stopped. No more runs are added; those that are queued end.",
}
# Whether what the page shows is paused after it: another tab, or person, may have changed it since.
_PAUSED_AFTER = {"paused": True, "paused_before": True, "resumed": False, "not_paused": False}
# What was done to some of several jobs or runs, and why to no others.
_DONE_TO_SEVERAL = {
    "run": ("requested", ""),
    "pause": ("paused", "paused already"),
    "resume": ("resumed", "not paused"),
    "cancel": ("cancelled", "ended already"),
    "retry": ("requested", "not ended, or of a collection that has a newer run"),
}


def address(path: str, action: str, count: int, total: int) -> str:
    """The address of a list that says that it was done to `count` of `total`."""
    said = urlencode({"done": action, "count": count, "of": total})
    return f"{path}{'&' if '?' in path else '?'}{said}"


def notice(
    params: Mapping[str, str], what: str = "job", paused: Collection[bool] = (True, False)
) -> str:
    """The sentence about what was done to one or several of `what`; empty if nothing is said.

    `paused`: whether each job on the page is paused; what contradicts all of them is not said.
    """
    done, numbers = params.get("done", ""), (params.get("count", ""), params.get("of", ""))
    if done in _PAUSED_AFTER and _PAUSED_AFTER[done] not in paused:
        return ""
    if done not in _DONE_TO_SEVERAL:
        return _DONE.get(done, "")
    if not all(text.isdecimal() and len(text) <= _MAX_DIGITS for text in numbers):
        return ""
    (count, total), (did, why) = map(int, numbers), _DONE_TO_SEVERAL[done]
    counted = f"{count:,} {what if count == 1 else f'{what}s'} {did}."
    if count >= total and count:
        return counted
    begin = counted if count else "Nothing was done."
    return f"{begin} Left as before: {total - count:,}, {why}." if why and total else begin

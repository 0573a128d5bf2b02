"""Errors that a JSON document states in the place of a list, whatever the HTTP status was. Pure."""

import json
import re
from typing import Any, cast


def stated_error(document: Any, found: Any) -> str | None:
    """Return how a document says that it is an error and no page of the list, or None.

    `found`: the list in it. If it has records, only `errors` is one, as GraphQL and JSON:API have
    it: a list of objects with a message.
    """
    members = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    for name, value in members.items():
        if value is found:
            continue
        known = name.lower().replace("_", "")
        if known == "errors" and _are_messages(value):
            return f"the page has {name}: {_shown(value)}"
        if not found and known in _SAYS_ERROR and _SAYS_ERROR[known](value):
            return f"the list is empty, and the page has {name}: {_shown(value)}"
    return None


def _are_messages(value: Any) -> bool:
    members = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(members) and all(isinstance(m, dict) and "message" in m for m in members)


def _is_error(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "no", "none", "null", "ok")
    return value is True or (isinstance(value, dict | list) and value not in ([], {}))


def _is_error_status(value: Any) -> bool:
    text = str(value).strip().lower()
    return text in ("error", "fail", "failed", "failure") or bool(_ERROR_STATUS.fullmatch(text))


def _is_no_success(value: Any) -> bool:
    return str(value).strip().lower() in ("false", "0", "no")


_ERROR_STATUS = re.compile("[45][0-9]{2}")
_SAYS_ERROR = {
    **dict.fromkeys(("error", "errors", "errormessage", "exception", "fault"), _is_error),
    **dict.fromkeys(("status", "statuscode", "code", "httpstatus"), _is_error_status),
    **dict.fromkeys(("success", "ok", "succeeded", "issuccess"), _is_no_success),
}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)[:200]
    return text.encode(errors="replace").decode()

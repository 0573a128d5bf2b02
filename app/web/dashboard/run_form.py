"""The form for a run with parameters: a field for each parameter of the task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from pydantic.fields import FieldInfo

from app.core.config import Config
from app.core.errors import UnknownJob
from app.store.schedules import schedule_rows
from app.web.http_error import PARAMETER
from workers import registry
from workers.job import Job, from_text, parameter_types, takes_list

NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class ParamField:
    """One field. `kind`: text, number, flag or choice; `many`: values separated by commas."""

    name: str
    kind: str
    many: bool
    choices: tuple[str, ...]
    default: str
    help: str


def fields_of(config: Config, key: str, task: str) -> list[ParamField]:
    """The parameters that a run of this schedule may have, without those that its key sets.

    The first call imports own jobs, which takes as long as they take.
    """
    try:
        job = registry.find_job(config, task)
    except UnknownJob:
        return []
    return _fields(job, _own_params(key, task))


def params_from(config: Config, key: str, task: str, form: Mapping[str, str]) -> dict[str, Any]:
    """The validated parameters of a form, as JSON values; empty fields are left out.

    Raises BadParameters, which names each fault.
    """
    own = _own_params(key, task)
    named: dict[str, Any] = dict(own)
    try:
        job = registry.find_job(config, task)
    except UnknownJob:
        return named
    for name, field in job.params.model_fields.items():
        text = form.get(PARAMETER + name, "").strip()
        if text and name not in own:
            named[name] = from_text(field.annotation, text)
    return job.json_params(named)


def _fields(job: Job, own: Mapping[str, Any]) -> list[ParamField]:
    found = job.params.model_fields.items()
    return [_field(name, field) for name, field in found if name not in own]


def _own_params(key: str, task: str) -> dict[str, Any]:
    source = schedule_rows.source_of(key, task)
    return {} if source is None else {"source": source}


def _field(name: str, field: FieldInfo) -> ParamField:
    kinds, many = parameter_types(field.annotation), takes_list(field.annotation)
    choices = tuple(
        str(member.value) for kind in kinds if issubclass(kind, Enum) for member in kind
    )
    if bool in kinds:
        kind = "flag"
    elif choices and not many:
        kind = "choice"
    else:
        kind = "number" if not many and set(kinds) & set(NUMBERS) else "text"
    default = field.get_default(call_default_factory=False)
    shown = "" if field.is_required() or default is None else _text(default)
    return ParamField(name, kind, many, choices, shown, field.description or "")


def _text(value: object) -> str:
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(_text(one) for one in cast("Iterable[object]", value))
    return str(value.value if isinstance(value, Enum) else value)

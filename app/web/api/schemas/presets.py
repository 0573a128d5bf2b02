"""Bodies of presets."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.web.api.schemas.base import Name, RequestModel, ResponseModel, SourceName


class PresetSource(RequestModel):
    """A source and its parameters."""

    source: SourceName
    params: dict[str, Any] = Field(default_factory=dict)


Sources = Annotated[list[PresetSource], Field(min_length=1, max_length=200)]


class PresetCreate(RequestModel):
    """A new preset."""

    name: Name
    sources: Sources


class PresetChange(RequestModel):
    """Fields to change; omitted fields are kept."""

    name: Name = Field(default_factory=str)
    sources: Sources = Field(default_factory=list[PresetSource])


class PresetSourceBody(ResponseModel):
    """A source and its parameters, as stored."""

    source: str
    params: dict[str, Any] = Field(default_factory=dict)


class PresetBody(ResponseModel):
    """A named set of sources. Built-in presets can be chosen but not changed."""

    id: UUID
    name: str
    built_in: bool
    sources: list[PresetSourceBody]
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Presets(ResponseModel):
    """All presets that can be chosen, built-in ones first."""

    presets: list[PresetBody]

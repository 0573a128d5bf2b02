"""Bodies of an organisation's secrets."""

from pydantic import AwareDatetime, Field, SecretStr

from app.web.api.schemas.base import RequestModel, ResponseModel


class SecretValue(RequestModel):
    """The value of a secret. It is never returned.

    The minimum length makes it possible to mask the value where a site echoes it.
    """

    value: SecretStr = Field(min_length=4, max_length=8_000)


class SecretName(ResponseModel):
    """A secret's name, and when it was last set."""

    name: str
    updated_at: AwareDatetime


class SecretNames(ResponseModel):
    """The names of the organisation's secrets."""

    secrets: list[SecretName]

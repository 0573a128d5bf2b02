"""The web process: `uvicorn app.web:app`."""

from typing import TYPE_CHECKING

from app.web import garbage

if TYPE_CHECKING:
    from starlette.applications import Starlette


def __getattr__(name: str) -> "Starlette":
    # `app` is created when uvicorn asks for it, so that this package can be imported without an
    # environment. What is imported stays: the collector would only search it, again and again.
    if name != "app":
        raise AttributeError(name)
    with garbage.importing():
        from app.web.application import application_from_environment  # noqa: PLC0415 - as above

        return application_from_environment()

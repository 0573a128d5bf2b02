"""The version of this installation, from the only place that states it: pyproject.toml."""

import tomllib
from pathlib import Path

_project = Path(__file__).parents[2] / "pyproject.toml"
VERSION: str = tomllib.loads(_project.read_text())["project"]["version"]


def user_agent(contact: str) -> str:
    """The User-Agent header: product, version and contact."""
    about = f"; {contact}" if contact else ""
    return f"Rollcall/{VERSION} (scheduled scraper{about})"

"""The version of this installation, from the only place that states it: pyproject.toml."""

import tomllib
from pathlib import Path

_project = Path(__file__).parents[2] / "pyproject.toml"
VERSION: str = tomllib.loads(_project.read_text())["project"]["version"]

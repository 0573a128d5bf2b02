"""Files that a command creates: all of them whole, or none."""

from collections.abc import Mapping
from pathlib import Path

from app.core.errors import FileUnusable


def write(files: Mapping[Path, str]) -> None:
    """Create the files, or none of them. Raises FileUnusable, also if one exists."""
    created: list[Path] = []
    for path, text in files.items():
        try:
            with path.open("x", encoding="utf-8") as file:
                created.append(path)
                file.write(text)
        except BaseException as error:
            for one in created:
                one.unlink()
            if isinstance(error, OSError):
                raise FileUnusable.from_error(error, path) from None
            raise

"""Checks the licences of the locked packages: only permissive and weak copyleft ones are allowed.

Reads requirements-dev.txt and the metadata of the installed packages. Prints each violation and
exits with 1 if there is one.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
ALLOWED = re.compile(
    r"\b(MIT|MIT-0|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla Public License|LGPL)\b"
)
REFUSED = re.compile(r"(?<!L)GPL|Affero|GNU General|SSPL|BUSL|Business Source|Commons Clause")
# Read by hand: their metadata names no licence in a field.
REVIEWED = {"axe-playwright-python": "MIT", "httpx-aiohttp": "BSD-3-Clause"}
# Never installed here: for other platforms or Python versions.
ELSEWHERE = {"async-timeout": "Apache-2.0", "colorama": "BSD-3-Clause"}


def stated(name: str) -> str:
    """Return the licence that the installed package states, "" if it states none."""
    found = metadata.metadata(name).json
    if expression := found.get("license_expression"):
        return str(expression)
    classifiers = [str(text) for text in found.get("classifier", ())]
    licences = [text for text in classifiers if text.startswith("License :: ")]
    field = str(found.get("license", "")).partition("\n")[0]
    return REVIEWED.get(name) or "; ".join([*licences, field]).strip("; ")


def violation(name: str, licence: str) -> str | None:
    """Return what is wrong with the licence of a package, None if it is allowed."""
    # Of several choices (OR) one must be allowed, with all of its parts (AND).
    for choice in licence.split(" OR "):
        parts = choice.split(" AND ")
        if all(ALLOWED.search(part) and not REFUSED.search(part) for part in parts):
            return None
    return f"{name}: its licence is {licence or 'not stated'}"


def main() -> int:
    found: list[str] = []
    for name in PINNED.findall((ROOT / "requirements-dev.txt").read_text("utf-8")):
        try:
            licence = stated(name)
        except metadata.PackageNotFoundError:
            licence = ELSEWHERE.get(name, "")
        if (problem := violation(name, licence)) is not None:
            found.append(problem)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

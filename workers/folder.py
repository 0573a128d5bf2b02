"""The operator's own sources: a folder of recipes, each with a schedule of its own."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from app import config as settings
from app.config import Config
from app.errors import BadConfig, BadRecipe, BadSchedule
from app.ledger import Declared
from app.recipes.load import Fault, foreign, load, secrets
from app.recipes.model import Recipe, Schedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule as When
from app.words import SOURCE

JOB = SOURCE
PREFIX = f"{JOB}:"
OTHERWISE = 3600.0  # seconds; of a recipe whose schedule cannot be read
LARGEST = 400_000  # bytes of a file


@dataclass(frozen=True, slots=True)
class Shelved:
    """A file of the folder: its recipe with its secrets, or what is wrong with it."""

    path: Path
    recipe: Recipe | None
    secrets: Mapping[str, SecretStr]
    faults: tuple[str, ...] = ()
    schedule: When | None = None

    @property
    def name(self) -> str:
        """The source's name, which is the file's."""
        return self.path.stem

    def usable(self) -> Recipe:
        """The recipe. Raises BadRecipe, which names the file, its lines and their mends."""
        if self.recipe is None or self.faults:
            raise BadRecipe(self.faults)
        return self.recipe

    def secret(self, reference: str) -> SecretStr:
        """See Resolve."""
        return self.secrets[reference]


def shelf(config: Config, taken: frozenset[str] = frozenset()) -> list[Shelved]:
    """Every recipe in the folder, by name. `taken`: names that built-in sources have.

    Raises BadConfig if there is no such folder; a bad file is a Shelved with its faults.
    """
    folder = config.sources_dir
    if folder is None:
        return []
    if not folder.is_dir():
        raise BadConfig(f"SOURCES_DIR = {str(folder)!r}: there is no such folder")
    return [one(path, taken) for path in sorted(folder.glob("*.toml"))]


def find(config: Config, name: str) -> Shelved:
    """The recipe of that name, as it is now. Raises BadRecipe if there is none."""
    folder = config.sources_dir
    path = None if folder is None else folder / f"{name}.toml"
    plain = name.replace("-", "").replace("_", "").isalnum()
    if path is None or not plain or not path.is_file():
        raise BadRecipe([f"there is no recipe {name!r} in SOURCES_DIR"])
    return one(path)


def one(path: Path, taken: frozenset[str] = frozenset()) -> Shelved:
    """Read one file."""
    try:
        if path.stat().st_size > LARGEST:
            return Shelved(path, None, {}, (f"{path.name}: is larger than {LARGEST:,} bytes",))
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Shelved(path, None, {}, (f"{path.name}: cannot be read: {type(error).__name__}",))
    try:
        recipe = load(text)
    except BadRecipe as bad:
        faults = tuple(f"{path.name}: {fault}" for fault in bad.faults)
        return Shelved(path, None, {}, faults, _schedule(text))
    known, unknown = _secrets(recipe)
    faults = [*foreign(recipe, "env", text), *unknown, *_misnamed(recipe, path, taken)]
    when = recipe.schedule.when()
    return Shelved(path, recipe, known, tuple(f"{path.name}: {f}" for f in faults), when)


def declared(config: Config, shelved: Shelved) -> Declared:
    """The schedule of a recipe. A bad one keeps its own: its runs say what is wrong."""
    key = PREFIX + shelved.name
    schedule = shelved.schedule or When.every(OTHERWISE)
    return Declared(
        key=key,
        job=JOB,
        schedule=When(schedule.rule, key),
        policies=Policies(
            misfire_grace=timedelta(seconds=config.misfire_grace_seconds),
            timeout=config.job_timeout_seconds,
            max_attempts=config.max_attempts,
        ),
    )


def _secrets(recipe: Recipe) -> tuple[dict[str, SecretStr], list[Fault]]:
    known: dict[str, SecretStr] = {}
    unknown: list[Fault] = []
    for reference, where in secrets(recipe).items():
        kind, _, name = reference.partition(":")
        value = settings.secret(name) if kind == "env" else None
        if value is not None:
            known[reference] = value
        elif kind == "env":
            place = ".".join(map(str, where))
            unknown.append(Fault(1, place, f"{name} is not set", f"put {name}=… into .env"))
    return known, unknown


def _misnamed(recipe: Recipe, path: Path, taken: frozenset[str]) -> list[Fault]:
    if recipe.name in taken:
        return [Fault(1, "name", f"{recipe.name} is built in", "choose another name")]
    if recipe.name == path.stem:
        return []
    mend = f"call the file {recipe.name}.toml, or the source {path.stem}"
    return [Fault(1, "name", f"{recipe.name} is in the file {path.name}", mend)]


def _schedule(text: str) -> When | None:
    try:
        told: Any = tomllib.loads(text).get("schedule")
        return None if told is None else Schedule.model_validate(told).when()
    except (tomllib.TOMLDecodeError, ValidationError, BadSchedule, RecursionError):
        return None

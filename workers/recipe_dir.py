"""The recipe directory SOURCES_DIR: one recipe per file, each with its own schedule."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from app.core import config as settings
from app.core.config import Config
from app.core.enums import SOURCE_TASK
from app.core.errors import BadConfig, BadRecipe, BadSchedule
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule as When
from app.sources.recipes.load import RecipeFault, disallowed_secrets, load, secret_references
from app.sources.recipes.model import Recipe
from app.sources.recipes.schedule_block import RecipeSchedule
from app.sources.recipes.toml_lines import line_of
from workers.schedule_settings import calendar_reader, default_policies

JOB = SOURCE_TASK
KEY_PREFIX = f"{JOB}:"
DEFAULT_INTERVAL = 3600.0  # seconds; the interval of a recipe whose schedule is invalid
MAX_BYTES = 400_000  # bytes per file


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe file: the recipe with its resolved secrets, or its faults."""

    path: Path
    recipe: Recipe | None
    secrets: Mapping[str, SecretStr]
    faults: tuple[str, ...] = ()
    schedule: When | None = None

    @property
    def name(self) -> str:
        """The source's name: the file name without its suffix."""
        return self.path.stem

    def usable(self) -> Recipe:
        """The recipe. Raises BadRecipe, which lists the faults by file and line, with fixes."""
        if self.recipe is None or self.faults:
            raise BadRecipe(self.faults)
        return self.recipe

    def secret(self, reference: str) -> SecretStr:
        """See Resolve."""
        return self.secrets[reference]


def load_recipes(config: Config, taken: frozenset[str] = frozenset()) -> list[LoadedRecipe]:
    """Load every recipe in SOURCES_DIR, ordered by name. `taken`: names of built-in sources.

    Raises BadConfig if the directory does not exist. An invalid file is returned with its faults.
    """
    folder = config.sources_dir
    if folder is None:
        return []
    if not folder.is_dir():
        raise BadConfig(f"SOURCES_DIR = {str(folder)!r}: there is no such folder")
    return [load_file(path, taken) for path in sorted(folder.glob("*.toml"))]


def find_recipe(config: Config, name: str) -> LoadedRecipe:
    """Load the recipe of that name. Raises BadRecipe if there is none."""
    path = find_file(config, name)
    if path is None:
        raise BadRecipe([f"there is no recipe {name!r} in SOURCES_DIR"])
    return load_file(path)


def find_file(config: Config, name: str) -> Path | None:
    folder = config.sources_dir
    path = None if folder is None else folder / f"{name}.toml"
    valid_name = name.replace("-", "").replace("_", "").isalnum()
    return path if path is not None and valid_name and path.is_file() else None


def load_file(path: Path, taken: frozenset[str] = frozenset()) -> LoadedRecipe:
    """Load one file. An invalid file is returned with its faults."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return LoadedRecipe(
                path, None, {}, (f"{path.name}: is larger than {MAX_BYTES:,} bytes",)
            )
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return LoadedRecipe(
            path, None, {}, (f"{path.name}: cannot be read: {type(error).__name__}",)
        )
    try:
        recipe = load(text)
    except BadRecipe as bad:
        faults = tuple(f"{path.name}: {fault}" for fault in bad.faults)
        return LoadedRecipe(path, None, {}, faults, _schedule(text))
    resolved, unknown = _resolve_secrets(recipe)
    faults = [
        *disallowed_secrets(recipe, "env", text),
        *unknown,
        *_name_faults(recipe, path, taken),
        *_schedule_faults(recipe, path, text),
    ]
    when = recipe.schedule.to_schedule()
    return LoadedRecipe(path, recipe, resolved, tuple(f"{path.name}: {f}" for f in faults), when)


def declare_schedule(config: Config, shelved: LoadedRecipe) -> DeclaredSchedule:
    """The schedule of a recipe. An invalid recipe has one too: its runs report the faults."""
    key = KEY_PREFIX + shelved.name
    schedule = shelved.schedule or When.every(DEFAULT_INTERVAL)
    return DeclaredSchedule(
        key=key, job=JOB, schedule=When(schedule.rule, key), policies=_policies(config, shelved)
    )


def _policies(config: Config, loaded: LoadedRecipe) -> Policies:
    defaults = default_policies(config)
    if loaded.recipe is None or loaded.faults:
        return defaults
    return loaded.recipe.schedule.to_policies(defaults, calendar_reader(loaded.path.parent))


def _schedule_faults(recipe: Recipe, path: Path, text: str) -> list[RecipeFault]:
    """The contradictions of `[schedule]` that depend on its calendar files."""
    try:
        recipe.schedule.to_policies(Policies(), calendar_reader(path.parent))
    except BadSchedule as error:
        return [RecipeFault(line_of(text, ("schedule",)), "schedule", str(error))]
    return []


def _resolve_secrets(recipe: Recipe) -> tuple[dict[str, SecretStr], list[RecipeFault]]:
    resolved: dict[str, SecretStr] = {}
    unknown: list[RecipeFault] = []
    for reference, where in secret_references(recipe).items():
        kind, _, name = reference.partition(":")
        value = settings.secret(name) if kind == "env" else None
        if value is not None:
            resolved[reference] = value
        elif kind == "env":
            place = ".".join(map(str, where))
            fix = settings.where_to_set(name)
            unknown.append(RecipeFault(1, place, f"{name} is not set", fix))
    return resolved, unknown


def _name_faults(recipe: Recipe, path: Path, taken: frozenset[str]) -> list[RecipeFault]:
    if recipe.name in taken:
        return [RecipeFault(1, "name", f"{recipe.name} is built in", "choose another name")]
    if recipe.name == path.stem:
        return []
    fix = f"call the file {recipe.name}.toml, or the source {path.stem}"
    return [RecipeFault(1, "name", f"{recipe.name} is in the file {path.name}", fix)]


def _schedule(text: str) -> When | None:
    try:
        table: Any = tomllib.loads(text).get("schedule")
        return None if table is None else RecipeSchedule.model_validate(table).to_schedule()
    except (tomllib.TOMLDecodeError, ValidationError, BadSchedule, RecursionError):
        return None

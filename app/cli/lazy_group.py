"""A group of commands whose modules are imported when a command is used, not for `--help`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

_PYDANTIC = "Value error, "


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is: `module:attribute` of its Typer application; and its line of help.

    `is_group`: the application is the command, with commands of its own.
    """

    place: str
    help: str
    is_group: bool = False

    def load(self, name: str) -> Any:
        """Import the module and return the command of that name."""
        module, _, attribute = self.place.partition(":")
        application = getattr(import_module(module), attribute or "app")
        application.rich_markup_mode = None  # formatting help with rich takes longer than the rest
        group = typer.main.get_group(application)
        for command in group.commands.values():
            command.short_help = _first_sentence(command.help)
        if not self.is_group:
            return group.commands[name]
        group.name = name
        return group


def _first_sentence(text: str | None) -> str:
    """The first sentence, for a list of commands: one without it would cut a longer text."""
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "."


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """The class of a group that lists `commands` in this order and imports one when it is used."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            # As far as help and suggestions need them.
            shown = {
                name: TyperCommand(
                    name,
                    help=one.help,
                    short_help=_first_sentence(one.help),
                    rich_markup_mode=None,
                )
                for name, one in commands.items()
            }
            options["commands"] = shown
            super().__init__(**options)

        def invoke(self, ctx: Any) -> Any:
            """Run the command; a faulty argument is said without the terms of its validation."""
            try:
                return cast("Any", super()).invoke(ctx)
            except typer.BadParameter as error:
                error.message = error.message.removeprefix(_PYDANTIC)
                raise

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Return the name, the imported command and its arguments."""
            name, command, rest = cast("Any", super()).resolve_command(ctx, args)
            return name, command and commands[name].load(name), rest

    return LazyGroup

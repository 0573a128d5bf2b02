"""A group of commands whose modules are imported when a command is used, not for `--help`."""

import gc
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, cast

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from app.cli import streams
from app.core import lazy_import

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
        with lazy_import.deferred("app", "asyncio", "workers") as execute_imports:
            application = getattr(import_module(module), attribute or "app")
            application.rich_markup_mode = None  # formatting help with rich takes longest
            application.info.cls = LightGroup
            group = typer.main.get_group(application)

        def begin() -> None:
            execute_imports()
            _let_interrupts_raise()

        for command in group.commands.values():
            command.short_help = _first_sentence(command.help)
            command.callback = _after(begin, command.callback)
        group.callback = _after(gc.enable, group.callback)
        if not self.is_group:
            return group.commands[name]
        group.name = name
        return group


def _after(
    step: Callable[[], None], callback: Callable[..., Any] | None
) -> Callable[..., Any] | None:
    """The callback of a command, which executes `step` before, and with the collector enabled.

    An entry point disables the collector, which takes a twelfth of the imports.
    """
    if callback is None:
        return None

    @wraps(callback)
    def both(*args: Any, **named: Any) -> Any:
        step()
        gc.enable()
        return callback(*args, **named)

    return both


def _let_interrupts_raise() -> None:
    """Handle SIGINT by KeyboardInterrupt, which an import that reads a deferred module clears."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _first_sentence(text: str | None) -> str:
    """The first sentence, for a list of commands: one without it would cut a longer text."""
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "."


class LightGroup(TyperGroup):
    """A group whose own options are validated, by importing pydantic, only if they are used."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options; a flag that is not given is False, because None is validated."""
        params: list[Any] = cast("Any", super()).get_params(ctx)
        for option in params:
            if option.is_flag and option.default is None:
                option.default = False
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; before the name of a command there are no options."""
        if args and args[0] in self.commands:
            self.params = []
        return cast("Any", super()).parse_args(ctx, args)


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """The class of a group that lists `commands` in this order and imports one when it is used."""

    class LazyGroup(LightGroup):
        def __init__(self, **options: Any) -> None:
            # As far as help and suggestions need them.
            shown = {
                name: TyperCommand(
                    name, help=one.help, short_help=_first_sentence(one.help), rich_markup_mode=None
                )
                for name, one in commands.items()
            }
            options["commands"] = shown
            super().__init__(**options)

        def invoke(self, ctx: Any) -> Any:
            """Run the command; a faulty argument is said without the terms of its validation."""
            try:
                return cast("Any", super()).invoke(ctx)
            except typer.TyperException as error:
                error.message = error.message.removeprefix(_PYDANTIC)
                streams.print_error(error.format_message())
                raise

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Return the name, the imported command and its arguments."""
            name, command, rest = cast("Any", super()).resolve_command(ctx, args)
            return name, command and commands[name].load(name), rest

    return LazyGroup

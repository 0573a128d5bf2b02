"""JMESPath evaluated on documents whose numbers are decimals."""

from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import Any, cast

import jmespath
import msgspec

# Imported untyped: the stubs of jmespath lack what is overridden here.
_functions: Any = import_module("jmespath.functions")
_visitor: Any = import_module("jmespath.visitor")
_encoder = msgspec.json.Encoder(decimal_format="number")


def evaluate(expression: str, value: Any) -> Any:
    """Return what a JMESPath finds in `value`.

    Raises JMESPathError if it cannot be evaluated there.
    """
    return _interpreter.visit(jmespath.compile(expression).parsed, value)


class ExactFunctions(_functions.Functions):
    """The functions of JMESPath, which take a decimal for a number."""

    def _convert_to_jmespath_type(self, pyobject: str) -> Any:
        base: Any = super()
        name = "float" if pyobject == "Decimal" else pyobject
        return base._convert_to_jmespath_type(name)  # noqa: SLF001 - of the same object

    def _get_allowed_pytypes(self, types: Any) -> tuple[list[str], list[tuple[str, ...]]]:
        base: Any = super()
        allowed, members = base._get_allowed_pytypes(types)  # noqa: SLF001 - of the same object
        return _with_decimal(allowed), [tuple(_with_decimal(names)) for names in members]

    @_functions.signature({"types": []})
    def _func_to_number(self, arg: Any) -> int | float | Decimal | None:
        if isinstance(arg, int | float | Decimal):
            return None if isinstance(arg, bool) else arg
        if not isinstance(arg, str) or "_" in arg:
            return None
        try:
            number = Decimal(arg)
        except InvalidOperation:
            return None
        if not number.is_finite():
            return None
        return int(number) if arg.strip().lstrip("+-").isdigit() else number

    @_functions.signature({"types": []})
    def _func_to_string(self, arg: Any) -> str:
        return arg if isinstance(arg, str) else _encoder.encode(arg).decode()

    @_functions.signature({"types": []})
    def _func_type(self, arg: Any) -> Any:
        base: Any = super()
        if isinstance(arg, Decimal):
            return "number"
        return base._func_type(arg)  # noqa: SLF001 - of the same object


def _with_decimal(names: Any) -> list[str]:
    return [*names, "Decimal"] if "float" in names else [*names]


class _Interpreter(_visitor.TreeInterpreter):
    """Evaluates JMESPath. Literals are decimals too: the decimal 19.9 is not the double 19.9."""

    def visit_literal(self, node: dict[str, Any], value: Any) -> Any:
        del value
        return _as_decimals(node["value"])


def _as_decimals(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return [_as_decimals(member) for member in cast("list[Any]", value)]
    return value


_interpreter = _Interpreter(_visitor.Options(custom_functions=ExactFunctions()))

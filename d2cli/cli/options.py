"""From the options that a request declares to parsers, and from parsed values to the request."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from d2cli.cli.console import CONSOLE
from d2cli.commands.numbers import decimal_number, whole_number
from d2cli.commands.requests import Input, Option
from d2cli.errors import UsageError
from d2cli.runtime.streams import shown

Request = TypeVar("Request")
_KEY_METAVAR = "NAME"


class ShownGroup(TyperGroup):
    """The program itself. The parser would print help as UTF-8 on terminals that show ASCII."""

    def get_help(self, ctx: Any) -> str:
        """The help, as standard output can show it."""
        return shown(super().get_help(ctx), sys.stdout)


class GroupedCommand(TyperCommand):
    """A command whose help shows options under the headings that they declare.

    An option that takes one value may be given once: the parser would use the last silently.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check what the words of the command line are, then parse them.

        Raises:
            UsageError: for an option that is given twice, or a word that belongs to no option.
        """
        parsed, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        if not (ctx.resilient_parsing or parsed.get("help")):
            single = (p.opts[-1] for p in order if not (p.multiple or getattr(p, "is_flag", False)))
            for flag, times in Counter(single).items():
                if times > 1:
                    often = "twice" if times == 2 else f"{times} times"
                    raise UsageError(f"{flag} is given {often}, and takes one value")
            names = {name for p in self.get_params(ctx) for name in p.opts}
            for parameter in order:
                values = parsed[parameter.name or ""]
                for value in values if isinstance(values, list) else [values]:
                    if value in names and not os.path.lexists(value):
                        flag = parameter.opts[-1]
                        raise UsageError(f"{flag} needs a value: {value} is the next option")
            if rest:
                shown = " ".join(rest[:3]) + (f" … ({len(rest)} words)" if len(rest) > 3 else "")
                raise UsageError(
                    f"unexpected {shown}: every file follows an option",
                    "quote a glob, so that the shell does not expand it: --emb 'shards/*.npy'",
                )
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The help, as standard output can show it."""
        return shown(super().get_help(ctx), sys.stdout)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a heading, in the order of declaration."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                heading = getattr(parameter, "rich_help_panel", None) or "Run"
                sections.setdefault(heading, []).append(row)
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)


def parser_of(request: type[Request], run: Callable[[Request], None]) -> Callable[..., None]:
    """A function that typer can read: one parameter for each option of `request`.

    Called with the parsed values, it makes the request and calls `run` with it.
    """

    def command(context: typer.Context, **values: Any) -> None:
        CONSOLE.remember(values["quiet"], values["json"], values["debug"])
        run(_filled(request, values, named=_given(context)))

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = {p.name: p for p in (context, *_parameters(request))}  # a shared key stands once
    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    return command


def _options(request: type) -> Iterator[tuple[dataclasses.Field[Any], Any, Option | None]]:
    """(field, type, option) of each field; None in place of the option: a group of options."""
    types = get_type_hints(request)
    for field in dataclasses.fields(request):
        option = field.metadata.get("option")
        kind = types[field.name]
        if option is not None and option.parse is None:
            option = _with_number(option, kind, field.default)
        if option is not None or dataclasses.is_dataclass(field.default):
            yield field, kind, option


def _with_number(option: Option, kind: Any, default: Any) -> Option:
    """An option whose type is a number, with the parser of that number; others as they are."""
    kinds = {kind, *get_args(kind)}
    if not kinds <= {int, float, NoneType, tuple[int, ...], Ellipsis} or kinds == {NoneType}:
        return option
    parse = decimal_number if float in kinds else whole_number
    shown = f" [default: {default}]" if isinstance(default, int | float) else ""
    metavar = option.metavar or ("FLOAT" if float in kinds else "INTEGER")
    return dataclasses.replace(option, parse=parse, help=option.help + shown, metavar=metavar)


def long_options(request: type) -> list[str]:
    """The long options of a request's command."""
    names: list[str] = []
    for field, _, option in _options(request):
        if option is None:
            names += long_options(type(field.default))
        else:
            names += [option.flags[-1], *([option.key] if option.key else [])]
    return list(dict.fromkeys(names))


def _parameters(request: type) -> Iterator[inspect.Parameter]:
    for field, kind, option in _options(request):
        if option is None:
            yield from _parameters(type(field.default))
            continue
        yield _parameter(
            field.name, _parsed_type(field, kind, option), _default(field, option), option
        )
        if option.key:
            key = dataclasses.replace(
                option, flags=(option.key,), metavar=_KEY_METAVAR, help=option.key_help
            )
            keys = list[str] | None if option.keys_repeat else str | None
            yield _parameter(_name(option.key), keys, None, key)


def _parsed_type(field: dataclasses.Field[Any], kind: Any, option: Option) -> Any:
    """The type that typer reads: texts where the option has a parser of its own."""
    if kind == Input | None:
        return list[str] | None
    if field.default == ():
        element: Any = str if option.parse is not None else kind.__args__[0]
        several: Any = list[element]
        return several if option.required else several | None
    return kind if option.parse is None else str | None


def _default(field: dataclasses.Field[Any], option: Option) -> Any:
    """The default that typer sees; None if the field's own applies later."""
    if option.required:
        return inspect.Parameter.empty
    return None if option.parse is not None or field.default == () else field.default


def _parameter(name: str, kind: Any, default: Any, option: Option) -> inspect.Parameter:
    shown = typer.Option(
        *option.flags,
        metavar=option.metavar,
        help=option.help,
        rich_help_panel=option.group,
        show_default=option.parse is None,
        case_sensitive=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown]
    )


def _filled(request: type[Request], values: dict[str, Any], **more: Any) -> Request:
    """The request that the parsed values make; what was not given keeps the field's default."""
    filled: dict[str, Any] = {}
    inputs_of_keys: dict[str, str] = {}  # by each key given: the first input it can name
    used: set[str] = set()
    for field, kind, option in _options(request):
        if option is None:
            filled[field.name] = _filled(type(field.default), values)
            continue
        value = values[field.name]
        if kind == Input | None:
            keys = _keys(values[_name(option.key)], option.key) if option.key else ()
            if keys and option.key:
                inputs_of_keys.setdefault(option.key, option.flags[0])
                used |= {option.key} if value else set()
            value = Input(list(value), keys) if value else None
        elif field.default == ():
            value = _parsed_all(value or [], option)
        elif option.parse is not None:
            value = field.default if value is None else option.parse(value, option.flags[-1])
        filled[field.name] = value
    for key, flag in inputs_of_keys.items():
        if key not in used:
            raise UsageError(f"{key} names something in {flag}, which is not given")
    return request(**filled, **more)


def _keys(value: str | list[str] | None, flag: str) -> tuple[str, ...]:
    """The values of an option that names columns; a repeated value is refused."""
    keys = tuple(value or ()) if not isinstance(value, str) else (value,)
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"{flag} {key} is given twice")
    return keys


def _parsed_all(values: list[Any], option: Option) -> tuple[Any, ...]:
    """The values of an option that may repeat; a parser may make several of one."""
    if option.parse is None:
        return tuple(values)
    parsed = [option.parse(value, option.flags[-1]) for value in values]
    return tuple(v for one in parsed for v in (one if isinstance(one, tuple) else (one,)))


def _name(flag: str) -> str:
    """The parameter of a flag."""
    return flag.removeprefix("--").replace("-", "_")


def _given(context: typer.Context) -> frozenset[str]:
    """The options that stand on the command line, as they are written."""
    return frozenset(
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name
        and getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    )

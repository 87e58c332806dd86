"""Every numeric setting of a project and every numeric option of the commands, found where they are declared."""

from __future__ import annotations

import typing
from collections.abc import Callable

from pydantic import BaseModel
from typer import Typer
from typer.models import OptionInfo

from hodsim.apps.cli import program
from hodsim.project import Settings

REGION = "all"  # a group of the study's mesh, for settings that each group may have of its own
SIDE = "x-max"  # where a setting or an option wants the name of a group or of a side


def numeric_settings() -> list[str]:
    """Their keys, each with a place for the number: 'material.density={}', 'subspace.hidden=[{}]', 'regions.all.density={}'."""
    found = []
    for name, field in Settings.model_fields.items():
        parts = _parts(field.annotation)
        if isinstance(field.default, BaseModel):
            found += [f"{name}.{key}" for key in _numeric(type(field.default))]
        elif parts[0] is dict and issubclass(parts[-1], BaseModel):
            found += [f"{name}.{REGION}.{key}" for key in _numeric(parts[-1])]
    return found + _numeric(Settings)


def _numeric(section: type[BaseModel]) -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        parts = _parts(field.annotation)
        if int in parts or float in parts:
            found.append(name + ("=[{}]" if tuple in parts else f"={{{{{SIDE} = {{}}}}}}" if dict in parts else "={}"))
    return found


def numeric_options(arguments: tuple[str, ...]) -> list[tuple[list[str], int]]:
    """The numeric options of a command, of which a call is given: the words of each before its numbers, and how many numbers."""
    return _options(_function(program(arguments[0]), arguments))


def _function(place: Typer, words: tuple[str, ...]) -> Callable:
    """What is called for a command line."""
    for group in place.registered_groups:
        if (group.name or group.typer_instance.info.name) == words[0]:
            return _function(group.typer_instance, words[1:])
    return next(each.callback for each in place.registered_commands if (each.name or each.callback.__name__) == words[0])


def _options(function: Callable) -> list[tuple[list[str], int]]:
    found = []
    for name, annotation in typing.get_type_hints(function, include_extras=True).items():
        options = [extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, OptionInfo)]
        parts = _parts(annotation.__origin__) if options else []
        numbers = sum(part in (int, float) for part in parts)
        if numbers:
            flag = next(iter(options[0].param_decls or ()), "--" + name.replace("_", "-"))
            found.append(([flag, SIDE] if str in parts else [flag], numbers))
    return found


def _parts(annotation) -> list:
    """The types that an annotation is made of, from left to right."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    inner = [part for argument in arguments for part in _parts(argument)] if origin is not typing.Literal else []
    return [origin or annotation, *inner]

"""Every numeric setting of a project and every numeric option of the commands, found where they are declared."""

from __future__ import annotations

import typing

import click
import typer
from pydantic import BaseModel

from hodsim.apps.cli import app
from hodsim.project import Settings

IN_LISTS = {"regions": "regions.all.density"}  # sections that have names of their own


def numeric_settings() -> list[str]:
    """Their keys, 'material.density' for one; a list of numbers as 'subspace.hidden[]'."""
    found = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            found += [f"{name}.{key}" for key in _numeric(type(field.default))]
        elif name in IN_LISTS:
            found.append(IN_LISTS[name])
    return found + _numeric(Settings)


def _numeric(section: type[BaseModel]) -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        kinds = _kinds(field.annotation)
        if kinds & {int, float}:
            found.append(name + ("[]" if tuple in kinds else ""))
    return found


def _kinds(annotation) -> set:
    """The types that an annotation is made of."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    inner = set().union(*map(_kinds, arguments)) if arguments and origin is not typing.Literal else set()
    return inner | {origin or annotation}


def numeric_options(commands: dict[str, tuple]) -> dict[str, list[tuple[str, int]]]:
    """By the name of a command, of which the first words are those of its path: its numeric options and how many numbers each takes."""
    return {name: _options(_command(arguments)) for name, (arguments, _) in commands.items()}


def _command(arguments: tuple[str, ...]) -> click.Command:
    command = typer.main.get_command(app)
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.commands[word]
    return command


def _options(command: click.Command) -> list[tuple[str, int]]:
    found = []
    for option in command.params:
        kinds = option.type.types if isinstance(option.type, click.Tuple) else [option.type]
        if isinstance(option, click.Option) and all(isinstance(kind, click.types.FloatParamType | click.types.IntParamType) for kind in kinds):
            found.append((max(option.opts, key=len), len(kinds)))
    return found

"""Settings from TOML with errors that name file, key, value and what was expected; settings to TOML with what each means beside it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hodsim.project.settings import Region, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


def read(file: Path, changes: Iterable[str] = ()) -> Settings:
    """The settings of a file with changes, each KEY=VALUE with dots in the key.

    Raises FileNotFoundError, or ValueError naming the file or the change, the key, its value and what was expected."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"project file {file} does not exist; `hodsim init MESH` writes one") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of a number of thousands of digits
        raise ValueError(f"{file} could not be read as TOML ({error})") from None
    return _validated(content, changes, str(file))


def changed(settings: Settings, changes: Iterable[str], name: str) -> Settings:
    """Settings of that name with changes, each KEY=VALUE. Raises ValueError naming the change, its value and what was expected."""
    return _validated(settings.model_dump(mode="json"), changes, name)


def _validated(content: dict[str, Any], changes: Iterable[str], name: str) -> Settings:
    made = [_change(content, change) for change in changes]
    try:
        return Settings.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise ValueError(_sentence(error, name, made)) from None


def write(settings: Settings) -> str:
    """The content of a project file that holds them, commented."""
    return "\n".join(_lines(settings))


def _change(content: dict[str, Any], change: str) -> str:
    """Apply KEY=VALUE, the value in TOML's notation, or a word without quotes; returns the key."""
    key, equals, text = change.partition("=")
    key = key.strip()
    if not (equals and key):
        raise ValueError(f"--set is {change!r}; expected KEY=VALUE, e.g. material.density=1200")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    *sections, name = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ValueError(f"--set {change}: {section} is no section; expected one of {', '.join(_sections())}")
    content[name] = value
    return key


EXPECTED = {
    "float_type": "a number", "int_type": "a whole number", "int_from_float": "a whole number", "finite_number": "a finite number",
    "string_type": "text in quotes", "string_too_short": "some text", "string_pattern_mismatch": "letters, digits, blanks, dots, - and _",
    "tuple_type": "a list, [...]", "too_short": "at least {min_length} of them", "dict_type": "a section", "model_type": "a section",
    "greater_than": "a number greater than {gt}", "greater_than_equal": "at least {ge}", "less_than": "a number less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}", "union_tag_invalid": "{expected_tags}", "union_tag_not_found": "a signal: piecewise or periodic",
}  # fmt: skip  # pydantic's kinds of error, in the words of this project


def _sentence(error: ValidationError, file: str, changed: Sequence[str]) -> str:
    """The first of the errors, where it is, and how many more places are wrong."""
    errors = error.errors()
    first, place = errors[0], _place(errors[0]["loc"])
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    was_set = any(key == c or key.startswith((c + ".", c + "[")) for c in changed)
    where = f"--set {key}" if was_set else f"{file}: {key}".removesuffix(": ")
    others = len({_place(e["loc"]) for e in errors}) - 1
    more = f" (and {others} more to mend)" if others else ""
    value = json.dumps(first["input"], default=str)
    match first["type"]:
        case "extra_forbidden":
            return f"{where} is {value}, but there is no such setting; expected {_nearest(place)}{more}"
        case "missing":
            return f"{where} is missing; expected {_described(place)}{more}"
        case "value_error":
            return f"{where}: {first['msg'].removeprefix('Value error, ')}{more}"
    expected = [_expected(e["type"], e.get("ctx", {}), e["msg"]) for e in errors if _place(e["loc"]) == place]
    return f"{where} is {value}; expected {' or '.join(dict.fromkeys(expected))}{more}"


def _place(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where an error is, less pydantic's names of the alternatives of a union."""
    alternatives = re.compile(r"literal\[.*|constrained-.*|int|piecewise|periodic")
    return tuple(part for part in location if isinstance(part, int) or not alternatives.fullmatch(part))


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    return EXPECTED[kind].format(**context) if kind in EXPECTED else message


def _nearest(place: Sequence[Any]) -> str:
    names = _names(place[:-1])
    near = get_close_matches(str(place[-1]), names, 1)
    return f"{near[0]}, perhaps" if near else f"one of {', '.join(names)}"


def _names(place: Sequence[Any]) -> list[str]:
    """The settings of the section at a place."""
    model: Any = Settings
    for part in place:
        if part == "regions":
            return list(Region.model_fields)
        default = getattr(model.model_fields.get(part), "default", None)
        if not isinstance(default, BaseModel):
            return ["name, split and terms" if len(place) < 3 else "shape, signal and those of the signal"]
        model = type(default)
    return list(model.model_fields)


def _described(place: Sequence[Any]) -> str:
    field = Settings.model_fields.get(str(place[0])) if len(place) == 1 else None
    return field.description or "a value" if field else "a value"


def _sections() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if isinstance(field.default, BaseModel)]


def _lines(settings: Settings) -> Iterator[str]:
    yield f"# {Settings.__doc__}"
    yield ""
    fields = Settings.model_fields
    for name in ("mesh", "output", "seed"):
        yield _line(name, getattr(settings, name), fields[name].description)
    for name in _sections():
        yield from _section(name, getattr(settings, name))
        if name == "material":
            yield from ("", f"# {fields['regions'].description}")
            for region, differing in settings.regions.items():
                yield f"[regions.{_key(region)}]"
                yield from _body(differing)
        if name == "sweep":
            yield from ("", f"# {fields['cases'].description}")
            for case in settings.cases:
                yield "[[cases]]"
                yield from (f"{key} = {_value(value)}" for key, value in case.model_dump().items())
    yield ""


def _section(name: str, section: BaseModel) -> Iterator[str]:
    """A section and those within it."""
    yield from ("", f"[{name}]   # {type(section).__doc__}")
    yield from _body(section)
    for key in type(section).model_fields:
        if isinstance(inner := getattr(section, key), BaseModel):
            yield from _section(f"{name}.{key}", inner)


def _body(section: BaseModel) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is not None and not isinstance(value, BaseModel):
            yield _line(name, value, field.description)


def _line(name: str, value: Any, meaning: str | None) -> str:
    return f"{f'{name} = {_value(value)}':<30} # {meaning}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)

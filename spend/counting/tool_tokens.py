"""
Writes tools as the model reads them: types of a TypeScript namespace.

That is how OpenAI puts functions into a prompt, as far as their counts of tokens tell.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

DEPTH_MAX: Final = 16
"""Schemas nested deeper are written as ``any``."""
_NAMES: Final = {
    "string": "string", "integer": "number", "number": "number", "boolean": "boolean",
    "null": "null",
}  # fmt: skip
_SCALARS: Final = (str, int, float)
_WITH_CHOICES: Final = frozenset({"string", "integer", "number"})


def described(tools: list[object]) -> tuple[str, bool]:
    """Return the text of the tools, and whether each of them was one that this form can tell."""
    functions = [_function_of(tool) for tool in tools]
    lines = ["namespace functions {", ""]
    for tool, function in zip(tools, functions, strict=True):
        lines += [_as_json(tool)] if function is None else _function(function)
    lines.append("} // namespace functions")
    return "\n".join(lines), None not in functions


def _function_of(tool: object) -> Mapping[str, object] | None:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    is_named = isinstance(function, Mapping) and isinstance(function.get("name"), str)
    return function if is_named else None


def _as_json(tool: object) -> str:
    try:
        return orjson.dumps(tool).decode()
    except orjson.JSONEncodeError:
        return ""


def _function(function: Mapping[str, object]) -> Iterator[str]:
    if isinstance(description := function.get("description"), str) and description:
        yield f"// {description}"
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and parameters.get("properties"):
        yield f"type {function['name']} = (_: {{"
        yield _properties(parameters, indent=0, depth=0)
        yield "}) => any;"
    else:
        yield f"type {function['name']} = () => any;"
    yield ""


def _properties(schema: Mapping[str, object], *, indent: int, depth: int) -> str:
    properties, required = schema.get("properties"), schema.get("required")
    known = {n for n in required if isinstance(n, str)} if isinstance(required, list) else set()
    lines: list[str] = []
    for name, value in properties.items() if isinstance(properties, Mapping) else ():
        of = value if isinstance(value, Mapping) else {}
        if isinstance(description := of.get("description"), str) and description:
            lines.append(f"// {description}")
        mark = "" if name in known else "?"
        lines.append(f"{name}{mark}: {_type(of, indent=indent, depth=depth + 1)},")
    return "\n".join(" " * indent + line for line in lines)


def _type(schema: Mapping[str, object], *, indent: int, depth: int) -> str:
    kind = schema.get("type")
    if depth > DEPTH_MAX or not isinstance(kind, str):
        return "any"
    if kind in _WITH_CHOICES and isinstance(choices := schema.get("enum"), list):
        return " | ".join(f'"{choice}"' for choice in choices if isinstance(choice, _SCALARS))
    if kind == "array":
        items = schema.get("items")
        of = items if isinstance(items, Mapping) else {}
        return f"{_type(of, indent=indent, depth=depth + 1)}[]"
    if kind == "object":
        return f"{{\n{_properties(schema, indent=indent + 2, depth=depth)}\n}}"
    return _NAMES.get(kind, "any")

"""Parameters of notebooks as they are given on a command line: text, read as the type of the parameter's default."""

import ast


def of_type(name: str, value: object, default: object) -> object:
    """The value of a parameter, of the type of its default; a ValueError if it is of another and cannot be read so."""
    kind = type(default)
    if isinstance(value, str) and kind is not str:
        value = _read(value, kind)
    if kind is float and type(value) is int:
        value = float(value)
    if kind is list and type(value) is tuple:
        value = list(value)
    if type(value) is not kind:
        raise ValueError(f"the parameter {name} is of type {kind.__name__}, like {default!r}, not {value!r}")
    if kind is list and default and any(type(element) is not type(default[0]) for element in value):
        raise ValueError(f"the parameter {name} is a list like {default!r}, not {value!r}")
    return value


def _read(text: str, kind: type) -> object:
    """`text` as a value of a type, or as the text it is if it cannot be."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if kind is list:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        return list(value) if isinstance(value, (list, tuple)) else [value]
    return value

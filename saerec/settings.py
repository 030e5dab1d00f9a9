"""What the settings of a recommender can be: one by one, all that a file holds, and those of a grid."""

import math
from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from numbers import Integral, Real

import numpy as np

from saerec.layouts import LAYOUTS

WHOLE = ("n_epochs", "batch_size", "patience", "seed")
LARGEST = float(np.finfo(np.float32).max)
# The lowest and the highest that each can be, and that in words.
RANGES = dict.fromkeys(WHOLE, (1, 2**63 - 1, "at least 1")) | {"seed": (0, 2**63 - 1, "at least 0")}
RANGES |= dict.fromkeys(("dropout", "input_dropout"), (0, math.nextafter(1, 0), "at least 0 and below 1"))
RANGES |= {"blend": (0, 1, "between 0 and 1")}
RANGES |= dict.fromkeys(("shrinkage", "weight_decay"), (0, LARGEST, "at least 0"))
RANGES |= dict.fromkeys(("lr", "ridge"), (math.ulp(0), LARGEST, "above 0"))
RANGES |= dict.fromkeys(("mask_weight", "feature_weight"), (-LARGEST, LARGEST, "a finite number"))


def check_settings(settings: Mapping, declared: Mapping[str, Parameter]) -> None:
    """Raise unless these are all the settings that are declared, each of a type and size that it can have."""
    if set(settings) != set(declared):
        raise ValueError(f"its parameters are {', '.join(map(str, settings))}")
    _check_types(settings, declared)
    check_one_of("orientation", settings["orientation"], LAYOUTS)
    for name, (low, high, words) in RANGES.items():
        value = settings[name]
        if value is not None and not low <= value <= high:
            words = f"at most {high:.3g}" if value > high > 1 else words
            raise ValueError(f"{name} must be {words}, not {value!r}")


def checked_grid(
    grid: Mapping[str, Sequence], declared: Mapping[str, Parameter], without: Iterable[str]
) -> dict[str, list]:
    """The grid with plain values, if a recommender can have each of them.

    Raises
    ------
    TypeError
        It is no mapping, or has a value of a type that the setting cannot have.
    ValueError
        It names what is no setting or one of those to do `without`, has no values, or one out of range.
    """
    if not isinstance(grid, Mapping):
        raise TypeError(f"a grid is a mapping, such as {{'shrinkage': [2, 5]}}, not of {type(grid).__name__}")
    possible = declared.keys() - {*without}
    for name, values in grid.items():
        if name not in possible:
            raise ValueError(f"{name!r} is no setting that a grid can have; there are {', '.join(sorted(possible))}")
        if isinstance(values, str) or not np.iterable(values) or len(values) == 0:
            raise ValueError(f"a grid has some values of each setting, and of {name!r} it has {values!r}")
    plain_grid = {name: [*map(plain, values)] for name, values in grid.items()}
    own = {name: parameter.default for name, parameter in declared.items()}
    for name, value in ((name, value) for name, values in plain_grid.items() for value in values):
        try:
            check_settings(own | {name: value}, declared)
        except ValueError as error:
            raise ValueError(f"no recommender can have all that the grid has: {error}") from error
    return plain_grid


def check_one_of(name: str, value: str, possible: Iterable[str]) -> None:
    """Raise unless the value of a setting is one of these."""
    if value not in possible:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, possible))}, not {value!r}")


def _check_types(settings: Mapping, declared: Mapping[str, Parameter]) -> None:
    """Raise TypeError, naming the setting, unless each is of a type that it can have."""
    for name, value in settings.items():
        default = declared[name].default
        if value is None and default is None:
            continue
        if name == "hidden_dims":
            dims = plain(value)
            fine = isinstance(dims, tuple) and dims and all(_is_number(dim, Integral) and dim >= 1 for dim in dims)
            kind = "a tuple or list of whole numbers of at least 1, such as (500,)"
        elif isinstance(default, str):
            fine, kind = isinstance(value, str), "a text"
        elif isinstance(default, bool):
            fine, kind = isinstance(value, (bool, np.bool_)), "True or False"
        elif name in WHOLE:
            fine, kind = _is_number(value, Integral), "a whole number"
        else:
            fine, kind = _is_number(value, Real), "a number"
        if not fine:
            raise TypeError(f"{name} must be {kind}, not {value!r}")


def _is_number(value, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def plain(value):
    """A setting without numpy: a sequence as a tuple, so that it can be compared."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value

"""Values of settings as files hold them: of the kind that the setting is annotated with, or refused."""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, get_args, get_origin

__all__ = ["of_kind"]

_KINDS: dict[type, tuple[str, str]] = {  # what a value is to be, and one
    bool: ("true or false", "true"),
    int: ("a whole number", "4"),
    float: ("a number", "0.5"),
    str: ("a text in quotes", '"..."'),
}


def of_kind(key: str, value: Any, hint: Any) -> Any:
    """The value of a setting, if it is of the kind of its annotation; lists become tuples.

    Raises:
        ValueError: If it is not.

    Example:
        >>> of_kind("hidden", [64, 32], tuple[int, ...])
        (64, 32)
    """
    several = get_origin(hint) is tuple
    (kind,) = {one for one in get_args(hint) or (hint,) if one not in (NoneType, Ellipsis)}
    what, example = _KINDS[kind]
    right = isinstance(value, list | tuple) if several else True
    right = right and all(_is(one, kind) for one in (value if several else [value]))
    if not right:
        what, example = (f"a list, each {what}", f"[{example}]") if several else (what, example)
        shown = json.dumps(value, default=str, ensure_ascii=False)
        raise ValueError(f"{key} = {shown} is not {what}; write {key} = {example}, for example.")
    return tuple(value) if several else value


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind or (kind is float and type(value) is int)

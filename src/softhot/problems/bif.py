r"""A reader of Bayesian networks in the Bayesian interchange format (.bif).

A file names variables with their states, and gives of each the probabilities :math:`p(z_n \mid \text{parents})`, one
row for each configuration of the parents::

    variable Rain { type discrete [ 2 ] { yes, no }; }
    variable Wet { type discrete [ 2 ] { yes, no }; }
    probability ( Rain ) { table 0.2, 0.8; }
    probability ( Wet | Rain ) { (yes) 0.9, 0.1; (no) 0.0, 1.0; }

A ``default`` row stands for all that are not given. Networks, properties and comments are read over. Decimals are
rounded in these files: rows that sum to one within 0.001 are divided by their sum, and others are refused.

Reference:
    Cozman (1998), "The interchange format for Bayesian networks", version 0.15.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from softhot.functional.check import tensor
from softhot.names import unknown

__all__ = ["Node", "parse_bif", "read_bif"]

ROUNDING = 1e-3
LARGEST = 10_000_000

_SKIPPED = re.compile(r'("[^"]*")|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)  # but what is quoted is no comment
_TOKEN = re.compile(r'"[^"]*"|[{}()\[\]|,;]|[^\s{}()\[\]|,;"]+')


@dataclass(frozen=True)
class Node:
    r"""A variable of a network, with its conditional probabilities.

    Arguments:
        name: of the variable.
        states: their names.
        parents: names of the variables that it depends on.
        table: the probabilities, in float64, with a dimension for each parent and the last for its own states.

    Raises:
        ValueError: If there is no state or one twice, a number is no probability, or a row does not sum to one.

    Example:
        >>> Node("Wet", ("yes", "no"), (), torch.tensor([0.2, 0.8], dtype=torch.float64)).table.sum().item()
        1.0
    """

    name: str
    states: tuple[str, ...]
    parents: tuple[str, ...]
    table: Float[Tensor, "*parents states"]

    def __post_init__(self) -> None:
        for kind, names in (("states", self.states), ("parents", self.parents)):
            if len(set(names)) < len(names) or (kind == "states" and not names):
                raise ValueError(
                    f"variable {self.name!r} has the {kind} {', '.join(names) or '(none)'}; name each one once."
                )
        tensor("table", self.table)
        table = self.table.double()
        if table.dim() != len(self.parents) + 1 or table.shape[-1] != len(self.states):
            raise ValueError(
                f"the table of {self.name!r} has the shape {tuple(table.shape)}, for {len(self.parents)} parents and "
                f"{len(self.states)} states; use a dimension for each parent and the last for the states."
            )
        if not ((table >= 0) & (table < math.inf)).all():
            bad = table[~((table >= 0) & (table < math.inf))][0].item()
            raise ValueError(f"variable {self.name!r} has the probability {bad:g}; use numbers from 0 to 1.")
        total = table.sum(-1, keepdim=True)
        wrong = (total - 1).abs() > ROUNDING
        if wrong.any():
            where = tuple(wrong[..., 0].nonzero()[0].tolist())
            row = ", ".join(f"{value:g}" for value in table[where].tolist())
            raise ValueError(
                f"a row of variable {self.name!r} does not sum to one: {row} sum to {total[where].item():g}; "
                "correct it in the file."
            )
        object.__setattr__(self, "table", table / total)


def read_bif(path: Path | str) -> tuple[Node, ...]:
    """The variables of a .bif file, in the order of the file.

    Raises:
        ValueError: If it cannot be read, or for the reasons of :func:`parse_bif`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"cannot read {str(path)!r}: {reason}; use the path of a .bif file.") from None
    return parse_bif(text)


def parse_bif(text: str) -> tuple[Node, ...]:
    """The variables of a network in the interchange format.

    Raises:
        ValueError: If the text is not in the format, a name is unknown, a row is missing, or rows do not sum to one;
            it names the variable.

    Example:
        >>> (rain,) = parse_bif("variable Rain { type discrete [2] { yes, no }; } probability (Rain) { table .2, .8; }")
        >>> rain.states, rain.table
        (('yes', 'no'), tensor([0.2000, 0.8000], dtype=torch.float64))
    """
    tokens = _Tokens(text)
    states: dict[str, tuple[str, ...]] = {}
    tables: dict[str, tuple[tuple[str, ...], list[_Row]]] = {}
    for word in tokens:
        name = tokens.name() if word in ("network", "variable") else ""
        if word == "network":
            tokens.block(name)
        elif word == "variable":
            if name in states:
                raise ValueError(f"variable {name!r} is declared twice; remove one.")
            states[name] = _states(tokens, name)
        elif word == "probability":
            name, parents = _family(tokens)
            if name in tables:
                raise ValueError(f"variable {name!r} has two blocks of probabilities; remove one.")
            tables[name] = parents, _rows(tokens, name)
        else:
            raise ValueError(f"{word!r} stands where network, variable or probability should; is this a .bif file?")
    if not states:
        raise ValueError("there is no variable; is this a .bif file?")
    for name, (parents, _) in tables.items():
        for other in (name, *parents):
            if other not in states:
                raise unknown("variable", other, states)
    for name in states:
        if name not in tables:
            raise ValueError(f"variable {name!r} has no probabilities; write probability ( {name} ) {{ ... }}.")
    return tuple(Node(name, states[name], tables[name][0], _table(name, states, *tables[name])) for name in states)


_Row = tuple[tuple[str, ...] | str, list[float]]  # of these states of the parents, or "table" or "default"


class _Tokens:
    """The words of a text, one after the other."""

    def __init__(self, text: str) -> None:
        self.words = [" ".join(word.split()) for word in _TOKEN.findall(_SKIPPED.sub(r"\1 ", text))]  # each in one line
        self.place = 0

    def __iter__(self) -> Iterator[str]:
        while self.place < len(self.words):
            yield self.next("a block")

    def next(self, what: str) -> str:
        if self.place == len(self.words):
            raise ValueError(f"the file ends where {what} should stand; is it cut off?")
        self.place += 1
        word: str = self.words[self.place - 1]
        return word

    def name(self) -> str:
        return self.next("a name").strip('"')

    def expect(self, symbol: str, who: str) -> None:
        word = self.next(repr(symbol))
        if word != symbol:
            raise ValueError(f"in {who!r}, {word!r} stands where {symbol!r} should; is this a .bif file?")

    def until(self, end: str, who: str) -> list[str]:
        """What stands before a symbol, without commas."""
        found = []
        while (word := self.next(f"{end!r}, in {who!r},")) != end:
            if word in "{}()[];":
                raise ValueError(f"in {who!r}, {word!r} stands where {end!r} should; is this a .bif file?")
            if word != ",":
                found.append(word.strip('"'))
        return found

    def skip(self, word: str, who: str) -> None:
        """Read over what begins with a word, to its semicolon."""
        while word != ";":
            word = self.next(f"';', in {who!r},")

    def block(self, who: str) -> None:
        """Read over a block of properties."""
        self.expect("{", who)
        while (word := self.next(f"'}}', in {who!r},")) != "}":
            self.skip(word, who)


def _states(tokens: _Tokens, name: str) -> tuple[str, ...]:
    tokens.expect("{", name)
    states: tuple[str, ...] | None = None
    while (word := tokens.next(f"'}}', in {name!r},")) != "}":
        if word != "type":
            tokens.skip(word, name)
            continue
        kind = tokens.name()
        if kind != "discrete":
            raise ValueError(f"variable {name!r} is {kind}, and only discrete variables can be read; leave it out.")
        tokens.expect("[", name)
        count = " ".join(tokens.until("]", name)) or "nothing"
        tokens.expect("{", name)
        states = tuple(tokens.until("}", name))
        tokens.expect(";", name)
        if count != str(len(states)):
            raise ValueError(f"variable {name!r} has {len(states)} states and says {count}; correct one of them.")
    if states is None:
        raise ValueError(f"variable {name!r} has no type; write type discrete [ 2 ] {{ yes, no }};")
    return states


def _family(tokens: _Tokens) -> tuple[str, tuple[str, ...]]:
    tokens.expect("(", "probability")
    name, *rest = tokens.until(")", "probability") or [""]
    if rest[:1] not in ([], ["|"]):
        raise ValueError(f"probability of {name!r} together with {rest[0]!r}; write ( {name} | {', '.join(rest)} ).")
    return name, tuple(rest[1:])


def _rows(tokens: _Tokens, name: str) -> list[_Row]:
    tokens.expect("{", name)
    rows: list[_Row] = []
    while (word := tokens.next(f"'}}', in {name!r},")) != "}":
        if word == "property":
            tokens.skip(word, name)
            continue
        if word != "(" and word not in ("table", "default"):
            raise ValueError(
                f"in the probabilities of {name!r}, {word!r} stands where a row should; is this a .bif file?"
            )
        key = tuple(tokens.until(")", name)) if word == "(" else word
        values = tokens.until(";", name)
        try:
            rows.append((key, [float(value) for value in values]))
        except ValueError:
            raise ValueError(f"a row of {name!r} is {', '.join(values)}; use numbers from 0 to 1.") from None
    return rows


def _table(name: str, states: dict[str, tuple[str, ...]], parents: tuple[str, ...], rows: list[_Row]) -> Tensor:
    own = len(states[name])
    given: dict[tuple[str, ...] | str, list[float]] = {}
    for key, values in rows:
        if key == "table" and parents:
            raise ValueError(
                f"{name!r} has a table over {', '.join(parents)}, of which files do not agree on the order; write a "
                "row for each configuration of the parents: (state, ...) 0.1, 0.9;"
            )
        key = () if key == "table" else key
        if key in given:
            raise ValueError(f"{name!r} has two rows for {key!r}; remove one.")
        if len(values) != own:
            raise ValueError(f"a row of {name!r} has {len(values)} numbers for {own} states; give one for each.")
        if isinstance(key, tuple):
            if len(key) != len(parents):
                raise ValueError(
                    f"a row of {name!r} is for {key!r}, and its parents are {', '.join(parents) or 'none'}."
                )
            for parent, state in zip(parents, key, strict=True):
                if state not in states[parent]:
                    raise unknown(f"state of {parent!r}", state, states[parent])
        given[key] = values
    size = math.prod((*(len(states[parent]) for parent in parents), own))
    if size > LARGEST:
        raise ValueError(f"{name!r} has {size:,} probabilities, more than {LARGEST:,}; give it fewer parents.")
    table = []
    for key in itertools.product(*(states[parent] for parent in parents)):
        row = given.get(key, given.get("default"))
        if row is None:
            where = f" at {', '.join(f'{p}={s}' for p, s in zip(parents, key, strict=True))}" if parents else ""
            raise ValueError(f"{name!r} has no probabilities{where}; write that row, or a default.")
        table.append(row)
    return torch.tensor(table, dtype=torch.float64).reshape(*(len(states[parent]) for parent in parents), own)

"""The declaration of a study: a TOML file that says which runs it is made of.

::

    title = "Which estimator, at equal cost?"
    seeds = 3                              # how many, from 0; or a list of them
    tune = ["learning_rate"]               # what is chosen on the validation images; "temperature" may be

    [data]
    name = "digits"                        # a data set, or the path of your own images
    binarise = "threshold"

    [model]
    latents = 4
    classes = 4
    hidden = [64]
    learned_prior = false

    [training]
    optimiser = "adam"
    batch_size = 100
    control_learning_rate = 0.03

    [budget]
    evaluations = 5e5                      # of the decoder; or seconds = 60, or epochs = 30

    [grid]                                 # what is combined; a value, or a list of them
    estimator = ["reinmax", "gumbel-softmax"]
    term = ["categorical", "concrete-exact"]
    temperature = [0.5, 1.0]
    learning_rate = [0.002, 0.008]

    [[arms]]                               # estimators with settings of their own; the rest is that of [grid]
    estimator = "leave-one-out"
    samples = [2, 4]

    [[arms]]
    estimator = "gumbel-softmax"
    term = "concrete-exact"
    temperature = 1.0
    final_temperature = 0.3

Everything may be left out: what is not said has the default of ``softhot compare``, whose flags make the same table.

==============  =====================================================================================================
``[data]``      name, binarise
``[model]``     latents, classes, hidden, learned_prior, prior_temperature
``[training]``  optimiser, batch_size, control_learning_rate, precision, schedule (of annealed temperatures)
``[budget]``    one of epochs, evaluations, seconds: how long each run is
``[grid]``      estimator, term, temperature, final_temperature, samples, baseline, components, learning_rate
``[[arms]]``    the same, one table for each group of estimators
==============  =====================================================================================================

The settings are those of ``softhot.lab.config.Config``. All combinations of the lists are run. An estimator takes
the settings that it has; temperatures of ``[grid]`` are those of relaxed variables, and those of ``[[arms]]`` are for
whatever estimator is named beside them. If there are ``[[arms]]``, the estimators of ``[grid]`` are run as well, if it
names any.

Example:
    >>> import textwrap
    >>> found = parse(textwrap.dedent(__doc__.split("::", 1)[1].split("Everything", 1)[0]))
    >>> found.title, len(found.runs), found.runs[0].length
    ('Which estimator, at equal cost?', 48, '500,000 evaluations of the decoder')
    >>> for arm in dict.fromkeys(run.arm for run in found.runs):
    ...     print(arm)
    reinmax t=1 + categorical
    gumbel-softmax t=0.5 + categorical
    gumbel-softmax t=1 + categorical
    gumbel-softmax t=0.5 + concrete-exact
    gumbel-softmax t=1 + concrete-exact
    leave-one-out n=2 + categorical
    leave-one-out n=4 + categorical
    gumbel-softmax t=1→0.3 + concrete-exact
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_type_hints

from softhot.lab.config import Config
from softhot.lab.kinds import of_kind
from softhot.lab.study.plan import GRID, MOST, Grid, Plan, plan
from softhot.names import unknown
from softhot.problems.data import DATA, load

__all__ = ["SEEDS", "TUNE", "USUAL", "declare", "parse", "read"]

# what is compared, if nothing else is said
USUAL: dict[str, list[Any]] = {
    "estimator": [
        *("exact", "leave-one-out", "straight-through", "reinmax", "gumbel-softmax", "st-gumbel-softmax"),
        "mixture-of-discrete-flows",
    ],
    "term": ["categorical", "maddison21", "maddison21-exact", "concrete", "concrete-exact", "mixture"],
    "temperature": [0.5, 1.0],
}
TUNE = ["learning_rate"]
SEEDS = 3

_SECTIONS = {  # the keys of a table, and the settings that they are
    "data": {"name": "data", "binarise": "binarise"},
    "model": {name: name for name in ("latents", "classes", "hidden", "learned_prior", "prior_temperature")},
    "training": {name: name for name in ("optimiser", "batch_size", "control_learning_rate", "schedule", "precision")},
    "budget": {"epochs": "epochs", "evaluations": "budget_evaluations", "seconds": "budget_seconds"},
}
_KEYS = ("title", "seeds", "tune", *_SECTIONS, "grid", "arms")
_HINTS = get_type_hints(Config)


def read(path: Path) -> Plan:
    """The study that a file declares.

    Raises:
        ValueError: In one line that names the file and the key, if anything in it is not as it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"cannot read {str(path)!r}: {reason}.") from error
    with _within(f"{path}: "):
        return parse(text)


def parse(text: str) -> Plan:
    """The study that the text of a file declares.

    Raises:
        ValueError: If it is not TOML, or not a declaration.

    Example:
        >>> parse("[grid]\\ntemperatur = 0.5")
        Traceback (most recent call last):
            ...
        ValueError: unknown key of [grid] 'temperatur'; did you mean 'temperature'? known: estimator, term, ...
    """
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply; no key of a study holds more than a list.") from None
    return dataclasses.replace(declare(table), declaration=text)


def declare(table: Mapping[str, Any]) -> Plan:
    """The study that a table declares, as TOML gives it; what is None is as if it were not there.

    Raises:
        ValueError: If a key is unknown, or a value is not of its kind or refused.

    Example:
        >>> declare({"seeds": 1, "grid": {"estimator": "reinmax", "term": "categorical"}}).runs[0].arm
        'reinmax t=1 + categorical'
    """
    table = {key: value for key, value in table.items() if value is not None}
    _known("key", table, _KEYS)
    settings = {
        setting: value
        for section, names in _SECTIONS.items()
        for setting, value in _settings(section, _table(table, section), names).items()
    }
    base = Config.for_data(settings.pop("data", "digits"), **settings)
    if base.data not in DATA and not Path(base.data).expanduser().exists():
        load(base.data)  # which says why there is no such set
    title = of_kind("title", table.get("title", ""), str)
    tune = of_kind("tune", table.get("tune", TUNE), tuple[str, ...])
    return dataclasses.replace(plan(base, _grids(table), _seeds(table.get("seeds", SEEDS)), tune=tune), title=title)


def _grids(table: Mapping[str, Any]) -> list[Grid]:
    shared = _lists("[grid]", _table(table, "grid"))
    arms = table.get("arms", [])
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise ValueError("arms are no tables; write [[arms]] above each of them.")
    grids = [Grid(USUAL | shared)] if "estimator" in shared or not arms else []
    for number, arm in enumerate(arms, 1):
        with _within(f"[[arms]] {number}: "):
            own = _lists("[[arms]]", arm)
            if "estimator" not in own:
                raise ValueError('an estimator is missing; write estimator = "reinmax", for example.')
            grids.append(Grid(USUAL | shared | own, frozenset(own)))
    return grids


def _seeds(value: Any) -> Sequence[int]:
    several = isinstance(value, list)
    seeds = of_kind("seeds", value, tuple[int, ...]) if several else range(of_kind("seeds", value, int))
    if not several and value > MOST:
        raise ValueError(f"seeds = {value} is more than {MOST:,}; use seeds = {SEEDS}, for example.")
    if not seeds:
        raise ValueError(f"seeds = {json.dumps(value)} leaves nothing to run; use seeds = {SEEDS}, for example.")
    return tuple(dict.fromkeys(seeds))


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} = {json.dumps(found, default=str)} is no table; write [{name}] and its keys below.")
    return {key: value for key, value in found.items() if value is not None}


def _settings(section: str, found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    _known(f"key of [{section}]", found, names)
    return {names[key]: of_kind(key, value, _HINTS[names[key]]) for key, value in found.items()}


def _lists(where: str, found: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    _known(f"key of {where}", found, GRID)
    lists = {key: value if isinstance(value, list) else [value] for key, value in found.items()}
    for key, values in lists.items():
        if not values:
            raise ValueError(f"{key} = [] lists nothing; leave it out for the default.")
    return {key: [of_kind(key, value, _HINTS[key]) for value in values] for key, values in lists.items()}


def _known(kind: str, found: Mapping[str, Any], known: Sequence[str] | Mapping[str, Any]) -> None:
    for key in found:
        if key not in known:
            raise unknown(kind, key, known)


@contextmanager
def _within(place: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error

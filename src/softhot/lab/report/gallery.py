"""The gallery of a report: reconstructions and samples of the first run of each arm."""

from __future__ import annotations

import base64
import binascii
import html
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from softhot.lab.figures.outcomes import leading
from softhot.lab.study.summary import Arm
from softhot.lab.training.images import PICTURES

__all__ = ["gallery"]

_TEXTS = (
    "Test images, and below each the mean pixels given one draw of its latent variables",
    "Mean pixels given draws of the latent variables from the prior",
)
_ABOUT = dict(zip(PICTURES, _TEXTS, strict=True))
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def gallery(arms: Sequence[Arm], records: Iterable[Mapping[str, Any]]) -> str:
    """A card for each arm that has pictures, those that :func:`leading` leaves out in a fold; empty if none has."""
    first: dict[str, Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda record: record.get("seed") or 0):
        first.setdefault(record["arm"], record)
    cards = {arm.label: card for arm in arms if (card := _card(arm, first[arm.label]))}
    if not cards:
        return ""
    shown = [cards.pop(arm.label) for arm in leading([arm for arm in arms if arm.label in cards], 12)]
    rest = f"<details><summary>The other arms: {len(cards)}</summary>{_grid(cards.values())}</details>" if cards else ""
    return (
        "<h3>Reconstructions and samples</h3>"
        "<p class='caption'>Of the first seed of each arm. Above: test images, and below each the mean pixels given "
        "one draw of its latent variables. Below: mean pixels given draws from the prior.</p>"
        f"{_grid(shown)}{rest}"
    )


def _grid(cards: Iterable[str]) -> str:
    return f"<ul class='gallery'>{''.join(cards)}</ul>"


def _card(arm: Arm, record: Mapping[str, Any]) -> str:
    pictures = record.get("pictures")
    found = [_image(arm, name, pictures.get(name)) for name in _ABOUT] if isinstance(pictures, Mapping) else []
    if not any(found):
        return ""
    seed = record.get("seed")
    return (
        f"<li data-arm='{html.escape(arm.label)}'><figure><figcaption>{html.escape(arm.label)}"
        f"<span class='quiet'>, seed {html.escape(str(seed))}</span></figcaption>{''.join(found)}</figure></li>"
    )


def _image(arm: Arm, name: str, text: Any) -> str:
    """An image, if the text is a PNG in base64."""
    try:
        start = base64.b64decode(text, validate=True)[:24]
    except (TypeError, ValueError, binascii.Error):
        return ""
    if len(start) < 24 or not start.startswith(_SIGNATURE):
        return ""
    width, height = struct.unpack(">II", start[16:24])
    about = html.escape(f"{_ABOUT[name]}: {arm.label}")
    return f"<img loading='lazy' width='{width}' height='{height}' alt='{about}' src='data:image/png;base64,{text}'>"

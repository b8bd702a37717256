"""What a study shows, in words, each sentence computed from its arms and honest about the number of seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from softhot.lab.study.summary import Arm, distinct

__all__ = ["chosen", "conclude", "tied"]


def tied(arms: Sequence[Arm]) -> list[Arm]:
    """The arms that are not distinguishable from the first in their discrete ELBO; diverged ones are."""
    return [arm for arm in arms[1:] if arm.elbo.count and not arm.failed and not distinct(arms[0].elbo, arm.elbo)]


def conclude(arms: Sequence[Arm]) -> list[str]:
    """What the arms of :func:`summarise` show, a sentence each; what they say nothing about is left out."""
    if not arms:
        return ["No run has finished: there is nothing to conclude yet."]
    ranked = [arm for arm in arms if arm.elbo.count and not arm.failed] or [arm for arm in arms if arm.elbo.count]
    sentences = [_best, _cheapest, _overstated, _twins, _encoder, _decoder, _chosen] if ranked else []
    return [text for sentence in sentences if (text := sentence(ranked))] + _diverged(arms)


def chosen(choice: Mapping[str, Any]) -> str:
    """What was chosen, in words.

    Example:
        >>> chosen({"arm": "zgr + categorical", "chosen": {"learning_rate": 0.01}, "candidates": [{}, {}]})
        'learning rate 0.01'
    """
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in choice["chosen"].items())


def _best(arms: list[Arm]) -> str:
    best, others = arms[0], tied(arms)
    value = f"'{best.label}' has the best discrete ELBO, {best.elbo.mean:.2f}"
    if best.elbo.count < 2:
        return f"{value} nats per image, but one seed cannot distinguish it from any other arm."
    value += f" ± {best.elbo.deviation:.2f} nats per image over {best.elbo.count} seeds"
    if len(arms) == 1:
        return f"{value}; there is no other arm to compare it with."
    if not others:
        return f"{value}; every other arm is distinguishably lower."
    counts = sorted({arm.elbo.count for arm in [best, *others]})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"{value}; not distinguishable from it with {seeds}: {_names(others)}."


def _cheapest(arms: list[Arm]) -> str:
    known = [arm for arm in arms if arm.evaluations.count]
    lowest = min((arm.evaluations.mean for arm in known), default=math.nan)
    cheap = [arm for arm in known if arm.evaluations.mean <= 1.001 * lowest]
    if not cheap or len(cheap) == len(arms):
        return ""
    best, cost = cheap[0], f"the lowest cost, {lowest:,.0f} decoder evaluations per run"
    if best is arms[0] and len(cheap) == 1:
        return f"No other arm costs as little: {lowest:,.0f} decoder evaluations per run."
    if best is arms[0]:
        return f"It is also the best of the {len(cheap)} arms at {cost}."
    apart = f"{arms[0].elbo.mean - best.elbo.mean:.2f} nats below the best"
    if not distinct(best.elbo, arms[0].elbo):
        apart += ", which is not distinguishable with these seeds"
    return f"At {cost}, '{best.label}' is the best: {best.elbo.mean:.2f} nats, {apart}."


def _overstated(arms: list[Arm]) -> str:
    if not any(arm.gap.count for arm in arms):
        return ""
    over = [arm for arm in arms if arm.overstates]
    if not over:
        return "No objective over-states the discrete ELBO distinguishably."
    most = max(over, key=lambda arm: arm.gap.mean)
    bounds = f"it bounds {most.bounds}, not of the discrete one" if most.bounds else "it bounds nothing"
    return (
        f"'{most.label}' over-states the discrete ELBO most: it reads {most.objective.mean:.2f} where the ELBO "
        f"is {most.elbo.mean:.2f} nats, {most.gap.mean:.2f} too many; {bounds}."
    )


def _twins(arms: list[Arm]) -> str:
    sampled = {arm.setting: arm for arm in arms if arm.term == "concrete"}
    pairs = [(arm, sampled[arm.setting]) for arm in arms if arm.term == "concrete-exact" and arm.setting in sampled]
    if not pairs:
        return ""
    if len(pairs) == 1:
        exact, other = pairs[0]
        verdict = "is not distinguishable from"
        if distinct(exact.elbo, other.elbo):
            verdict = "trains better than" if exact.elbo.mean > other.elbo.mean else "trains worse than"
        numbers = f"{exact.elbo.mean:.2f} against {other.elbo.mean:.2f} nats"
        return f"With {exact.setting}, the exact relaxed KL {verdict} its Monte Carlo twin: {numbers}."
    clear = [exact.elbo.mean > other.elbo.mean for exact, other in pairs if distinct(exact.elbo, other.elbo)]
    gains = [exact.elbo.mean - other.elbo.mean for exact, other in pairs]
    return (
        f"The exact relaxed KL against its Monte Carlo twin, in {len(pairs)} pairs: better in {sum(clear)}, worse in "
        f"{len(clear) - sum(clear)}, not distinguishable in {len(pairs) - len(clear)} "
        f"({min(gains):+.2f} to {max(gains):+.2f} nats)."
    )


def _encoder(arms: list[Arm]) -> str:
    stage, known = "at the fresh weights that all arms share", [(arm, arm.start.encoder.cosine) for arm in arms]
    if not any(cosine.count for _, cosine in known):
        stage, known = "after training", [(arm, arm.end.encoder.cosine) for arm in arms]
    known = sorted(
        ((arm, cosine) for arm, cosine in known if cosine.count and not arm.unbiased), key=lambda c: c[1].mean
    )
    if len(known) < 2:
        return ""
    (worst, low), (best, high) = known[0], known[-1]
    text = f"Of the biased estimators' encoder gradients, {stage}, the mean cosine with the true one is"
    if not distinct(low, high):
        return f"{text} {low.mean:.2f} to {high.mean:.2f}, and best and lowest are not distinguishable."
    ties = [sum(other is not end and not distinct(other, end) for _, other in known) for end in (high, low)]
    same = [f"; not distinguishable: {count} more" if count else "" for count in ties]
    return (
        f"{text} best for '{best.label}' ({high.mean:.2f}{same[0]}) and lowest for '{worst.label}' "
        f"({low.mean:.2f}{same[1]})."
    )


def _decoder(arms: list[Arm]) -> str:
    texts = []
    for sample, name in (("hard", "hard"), ("soft", "relaxed")):
        known = [arm.end.decoder for arm in arms if arm.sample == sample and arm.end.decoder.bias.count]
        if known:
            middle = statistics.median(gradient.bias.mean for gradient in known)
            within = sum(gradient.unbiased for gradient in known)
            texts.append(f"{within} of {len(known)} arms with {name} samples (median bias {middle:.2f})")
    if not texts:
        return ""
    return f"The decoder's gradient after training has a bias within its error bars of zero in {' and '.join(texts)}."


def _chosen(arms: list[Arm]) -> str:
    tuned = [(arm, arm.choice) for arm in arms if arm.choice is not None]
    if not tuned:
        return ""
    groups: dict[str, list[Arm]] = {}
    for arm, choice in tuned:
        groups.setdefault(chosen(choice), []).append(arm)
    text = "; ".join(f"{what} for {_names(group)}" for what, group in groups.items())
    counts = sorted({len(choice["candidates"]) for _, choice in tuned})
    tried = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = (
        f"Chosen from {tried} candidates each by the mean discrete ELBO of the validation images, before the test "
        f"images were looked at: {text}."
    )
    ends = [arm for arm, choice in tuned if _at_end(choice)]
    return f"{text} At an end of what was tried, so that a wider range may do better: {_names(ends)}." if ends else text


def _at_end(choice: Mapping[str, Any]) -> bool:
    tried = {name: [one[name] for one in choice["candidates"]] for name in choice["chosen"]}
    return any(value in (min(tried[name]), max(tried[name])) for name, value in choice["chosen"].items())


def _diverged(arms: Sequence[Arm]) -> list[str]:
    failed = [arm for arm in arms if arm.failed]
    if not failed:
        return []
    count = sum(arm.failed for arm in failed)
    runs = sum(arm.seeds for arm in arms)
    return [f"{count} of {runs} runs diverged (no finite discrete ELBO), and their arms rank last: {_names(failed)}."]


def _names(arms: Sequence[Arm], most: int = 3) -> str:
    names = [f"'{arm.label}'" for arm in arms[:most]]
    if len(arms) > most:
        names.append(f"{len(arms) - most} more")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

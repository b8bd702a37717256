"""The demonstrations run and show what the documents say they show."""

import re

from pages.gallery import output


def lines(name):
    return output(name).splitlines()


def test_discretising_matters_but_through_the_sample():
    rows = [line for line in lines("eq21_discretised") if line.endswith(("yes", "no"))]
    assert len(rows) == 9
    for row in rows:
        assert row.endswith("yes") == ("through the sample alone" in row)


def test_hard_samples_give_the_decoder_the_right_gradient():
    rows = [line for line in lines("decoder_gradient") if " hard " in line or " soft " in line]
    verdicts = {row.split()[0]: (row.split()[1], row.split()[5], row.split()[9]) for row in rows}
    assert verdicts["leave-one-out"] == ("hard", "noise", "noise")
    assert verdicts["straight-through"] == ("hard", "noise", "biased")
    assert verdicts["st-gumbel-softmax"] == ("hard", "noise", "biased")
    assert verdicts["gumbel-softmax"] == ("soft", "biased", "biased")


def test_estimators_come_to_the_closed_form_of_a_gaussian_mixture():
    found = {name: float(value) for name, value in (line.rsplit(maxsplit=1) for line in lines("gaussian_mixture"))}
    best = found.pop("closed form")
    assert found.pop("start") < best - 100
    assert len(found) == 5
    for name, value in found.items():
        assert best - (1 if name in ("exact", "local-expectation") else 10) < value <= best, name


def numbers(line):
    return [float(found) for found in re.findall(r"-?\d+\.?\d*", line)]


def test_an_autoencoder_codes_more_than_the_mean_image():
    classes, nats, pixels = (numbers(line.split(":")[1]) for line in lines("recipes/discrete_autoencoder"))
    assert len(classes) == len(nats) == 8
    assert min(classes) > 4
    assert 5 < sum(nats) < 15  # ten are free
    assert pixels[0] < pixels[1] - 5


def test_a_world_model_imagines_a_walk_from_its_actions():
    sees, imagines, classes = (numbers(line.split(":")[1]) for line in lines("recipes/world_model"))
    assert sees[0] > 0.9
    assert imagines[0] > 0.7 > 5 * imagines[1]
    assert 1 < min(classes) < max(classes) < 8


def test_pyro_infers_with_an_exact_divergence():
    loss, classes, drawn, exact = (numbers(line.split(":")[1]) for line in lines("recipes/pyro_guide"))
    assert classes == [0, 2, 1, 2]
    assert loss[1] < loss[0]
    assert abs(drawn[0] - exact[0]) < 5 * (drawn[1] ** 2 + exact[1] ** 2) ** 0.5

"""The demonstrations run and show what the documents say they show."""

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

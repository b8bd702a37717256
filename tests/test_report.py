"""The summary against numbers by hand, the conclusion against numbers that flip it, and what the page holds."""

from __future__ import annotations

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import softhot.lab
from softhot.lab.figures import drawing, outcomes, quality
from softhot.lab.figures.marks import marks
from softhot.lab.report import exhibits
from softhot.lab.report.conclusion import conclude, tied
from softhot.lab.report.page import render
from softhot.lab.study.spread import Spread
from softhot.lab.study.summary import distinct, summarise
from tests.studies import DISCRETE, RELAXED, STUDY, arm, drawn, large, mixed, run

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


@pytest.fixture(scope="module")
def page() -> str:
    return render(STUDY, mixed())


class Elements(HTMLParser):
    """Every element opened is closed, in order; what was seen is kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def said(records: list[dict[str, Any]]) -> str:
    return "\n".join(conclude(summarise(records)))


def test_summary_by_hand() -> None:
    records = arm("a + categorical", -19.0, -18.0, -17.5, encoder={"bias_se": 0.3}, gap=0.5)
    records[0]["gradient"] = {"end": {"encoder": {"bias": 0.6, "bias_se": 0.4}}}
    records[1]["log_likelihood"] = None
    (one,) = summarise(records)
    assert (one.label, one.seeds, one.failed, one.bounds) == ("a + categorical", 3, 0, DISCRETE)
    assert one.elbo.mean == pytest.approx(-54.5 / 3)
    assert one.elbo.deviation == pytest.approx(math.sqrt((25 + 1 + 16) / 36 / 2))  # -5/6, 1/6 and 4/6 from the mean
    likelihood = one.log_likelihood
    assert (likelihood.mean, likelihood.deviation) == pytest.approx((-17.25, math.sqrt(2 * 0.75**2)))
    assert likelihood.count == 2
    assert one.objective.mean == pytest.approx(-54.5 / 3 + 0.5)
    assert one.gap == Spread(0.5, 0.0, 3)
    assert one.end.encoder.bias.mean == pytest.approx(0.4)
    assert one.end.encoder.bias_se == pytest.approx(math.sqrt((0.16 + 0.09 + 0.09) / 3))
    assert one.start.encoder.bias == Spread(0.3, 0.0, 2)
    assert one.evaluations.mean == 60_000
    assert [point.valid_elbo.mean for point in one.curve] == [-30, -15, -10, -7.5, -6]
    assert [point.evaluations for point in one.curve] == [12_000, 24_000, 36_000, 48_000, 60_000]
    assert [point.seconds for point in one.curve] == pytest.approx([0.6, 1.2, 1.8, 2.4, 3.0])
    assert one.cost == Spread(1.0, 0.0, 2)  # the first has no such number


def test_one_seed_has_no_deviation() -> None:
    (one,) = summarise([run()])
    assert one.elbo.count == 1
    assert math.isnan(one.elbo.deviation)


def test_ranking_puts_diverged_arms_last() -> None:
    labels = [(one.label, one.failed) for one in summarise(mixed())]
    assert labels[0] == ("exact + <script>alert(1)</script>", 0)
    assert labels[-2:] == [("gumbel-softmax t=1 + categorical", 2), ("straight-through + categorical", 1)]
    assert [one.elbo.mean for one in summarise(mixed())[:5]] == sorted(
        (one.elbo.mean for one in summarise(mixed())[:5]), reverse=True
    )


def test_a_run_that_was_not_scored_has_not_diverged() -> None:
    unscored = [run("a + categorical", seed, None, valid_elbo=-20.0, gap=None) for seed in range(2)]
    scored, other = summarise([*unscored, *arm("b + categorical", -19.0, None)])
    assert (other.label, other.failed, other.unscored) == ("a + categorical", 0, 2)
    assert (scored.label, scored.failed, scored.unscored) == ("b + categorical", 1, 0)
    page = render(STUDY, [*unscored, *arm("b + categorical", -19.0, None)])
    assert "2 of 4 runs have no scores on the test images." in page
    assert "1 of 4 runs diverged" in page
    assert "<td data-value='2'>2 (2 not scored)</td>" in page


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (3, 5), (10, 40)])
def test_distinct_is_welchs_test(counts: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    one, other = Spread(0.0, 1.0, counts[0]), Spread(0.0, 0.3, counts[1])
    parts = [s.deviation**2 / s.count for s in (one, other)]
    freedom = sum(parts) ** 2 / sum(v**2 / (s.count - 1) for v, s in zip(parts, (one, other), strict=True))
    limit = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    assert not distinct(one, Spread(0.99 * limit, 0.3, counts[1]))
    assert distinct(one, Spread(1.05 * limit, 0.3, counts[1]))


def test_one_seed_is_never_distinct() -> None:
    assert not distinct(Spread(0.0, math.nan, 1), Spread(100.0, 0.1, 5))


def test_best_and_ties_flip() -> None:
    good, near = arm("a + categorical", -18.0, -18.1, -18.2), arm("b + categorical", -18.1, -18.2, -18.3)
    far = arm("b + categorical", -19.1, -19.2, -19.3)
    assert "'a + categorical' has the best discrete ELBO, -18.10 ± 0.10 nats per image over 3 seeds; " in said(
        good + far
    )
    assert "every other arm is distinguishably lower" in said(good + far)
    assert "not distinguishable from it with 3 seeds: 'b + categorical'." in said(good + near)
    assert [one.label for one in tied(summarise(good + near))] == ["b + categorical"]
    assert "'b + categorical' has the best" in said(far + arm("a + categorical", -20.1, -20.2))
    assert "no other arm" in said(good)
    assert "one seed cannot distinguish it" in said(good[:1] + far[:1])


def test_cost_flips() -> None:
    cheap = arm("a + categorical", -18.0, -18.1, -18.2)
    costly = arm("b + categorical", -17.0, -17.1, -17.2, evaluations=240_000)
    assert "At the lowest cost, 60,000 decoder evaluations per run, 'a + categorical' is the best" in said(
        cheap + costly
    )
    assert "-18.10 nats, 1.00 nats below the best." in said(cheap + costly)
    close = arm("b + categorical", -17.9, -18.0, -18.2, evaluations=240_000)
    assert "below the best, which is not distinguishable with these seeds." in said(cheap + close)
    worse = arm("b + categorical", -19.0, -19.1, -19.2, evaluations=240_000)
    assert "No other arm costs as little: 60,000 decoder" in said(cheap + worse)
    second = arm("c + categorical", -18.8, -18.9, -19.0)
    assert "It is also the best of the 2 arms at the lowest cost" in said(cheap + worse + second)
    assert "lowest cost" not in said(cheap)


def test_overstating_flips() -> None:
    fair = arm("a + categorical", -18.0, -18.1, -18.2)
    nothing = arm("gumbel-softmax t=1 + maddison21", -19.0, -19.1, -19.2, gap=3.0)
    relaxed = arm("gumbel-softmax t=1 + concrete", -19.0, -19.1, -19.2, gap=4.0)
    assert "No objective over-states" in said(fair)
    text = "it reads -16.10 where the ELBO is -19.10 nats, 3.00 too many; it bounds nothing."
    assert f"'gumbel-softmax t=1 + maddison21' over-states the discrete ELBO most: {text}" in said(fair + nothing)
    assert f"it bounds {RELAXED}, not of the discrete one." in said(fair + nothing + relaxed)
    noisy = [run("gumbel-softmax t=1 + maddison21", seed, -19.0, gap) for seed, gap in enumerate((-1.0, 0.2, 1.0))]
    assert "No objective over-states" in said(fair + noisy)
    bound = arm("a + categorical", -18.0, -18.1, -18.2, gap=1.0)
    assert "No objective over-states" in said(bound)  # a bound of the discrete log-likelihood is allowed to be tighter


def test_exact_term_against_its_twin_flips() -> None:
    sampled = arm("gumbel-softmax t=1 + concrete", -19.0, -19.1, -19.2)
    start = "With gumbel-softmax t=1, the exact relaxed KL"
    for elbos, verdict in {
        (-18.0, -18.1, -18.2): "trains better than",
        (-20.0, -20.1, -20.2): "trains worse than",
        (-19.0, -19.1, -19.1): "is not distinguishable from",
    }.items():
        assert f"{start} {verdict} its Monte Carlo twin" in said(
            sampled + arm("gumbel-softmax t=1 + concrete-exact", *elbos)
        )
    other = arm("gumbel-softmax t=0.5 + concrete-exact", -18.0, -18.1, -18.2)
    assert "twin" not in said(sampled + other)  # at another temperature it is none
    both = arm("gumbel-softmax t=0.5 + concrete", -17.0, -17.1, -17.2) + other
    many = said(sampled + arm("gumbel-softmax t=1 + concrete-exact", -18.0, -18.1, -18.2) + both)
    assert "in 2 pairs: better in 1, worse in 1, not distinguishable in 0 (-1.00 to +1.00 nats)" in many


def test_encoder_cosine_flips() -> None:
    def records(one: float, other: float) -> list[dict[str, Any]]:
        values = {"a + categorical": one, "b + categorical": other, "exact + categorical": 1.0}
        return [
            run(name, seed, encoder={"cosine": cosine + 0.01 * seed * (name != "exact + categorical")})
            for name, cosine in values.items()
            for seed in range(3)
        ]

    assert "best for 'a + categorical' (0.71) and lowest for 'b + categorical' (0.41)" in said(records(0.7, 0.4))
    assert "best for 'b + categorical' (0.71) and lowest for 'a + categorical' (0.41)" in said(records(0.4, 0.7))
    assert "is 0.70 to 0.71, and best and lowest are not distinguishable" in said(records(0.695, 0.7))
    assert "cosine" not in said(arm("exact + categorical", -18.0, -18.1))


def test_decoder_bias_flips() -> None:
    hard = arm("a + categorical", -18.0, -18.1, -18.2)
    soft = arm("gumbel-softmax t=1 + categorical", -19.0, -19.1, -19.2)
    assert "in 1 of 1 arms with hard samples (median bias 0.01) and 0 of 1 arms with relaxed samples" in said(
        hard + soft
    )
    biased = arm("a + categorical", -18.0, -18.1, decoder={"bias": 0.1})
    assert "in 0 of 1 arms with hard samples (median bias 0.10)." in said(biased)
    assert "decoder's" not in said(arm("a + categorical", -18.0, decoder={"bias": None}))


def test_what_is_missing_is_said() -> None:
    assert conclude([]) == ["No run has finished: there is nothing to conclude yet."]
    assert said([run(elbo=None)]).startswith("1 of 1 runs diverged")
    assert "3 of 16 runs diverged (no finite discrete ELBO), and their arms rank last: 'gumbel" in said(mixed())
    assert 3 <= len(conclude(summarise(mixed()))) <= 7


def test_page_is_well_formed_and_loads_nothing(page: str) -> None:
    elements = Elements(page).seen
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    for tag, attributes in elements:
        for name in ("src", "action", "srcset"):
            assert name not in attributes, (tag, attributes)
        assert "href" not in attributes or str(attributes["href"])[1:] in ids
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])
    assert sum(tag == "script" for tag, _ in elements) == 3  # the data, Plotly once, the page's own
    policy = next(attributes for _, attributes in elements if attributes.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        assert tag != "th" or attributes["scope"] in ("col", "row")
        assert "plot" not in str(attributes.get("class")) or attributes["aria-label"]


def test_page_holds_everything(page: str) -> None:
    before_scripts = page[: page.index("</main>")]
    for record in mixed():
        assert html.escape(record["arm"]) in before_scripts
    for pair in STUDY["skipped"]:
        assert html.escape(pair["reason"]) in before_scripts
        assert f"{pair['estimator']} + {pair['term']}" in before_scripts
    for sentence in conclude(summarise(mixed())):
        assert html.escape(sentence) in before_scripts
    for heading in re.findall(r"<button type='button'>(.*?)</button>", before_scripts):
        assert f"<dt>{heading}</dt>" in before_scripts
    assert "bounds nothing" in before_scripts
    assert "-18.10 <span class='sd'>± 0.10</span> ≈" in before_scripts
    assert "+1.50 ▲" in before_scripts
    assert "3 (2 diverged)" in before_scripts
    assert "Arms have between 1 and 3 seeds." in before_scripts
    assert html.escape(str(STUDY["command"])) in before_scripts
    assert "nan" not in re.sub(r"<[^>]*>", "", before_scripts).lower().split()


def test_labels_are_escaped(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    pictures = json.loads(found[1])
    assert "<script" not in json.dumps(pictures)  # Plotly reads its texts as HTML
    assert sorted(pictures) == ["budget", "cost", "curves", "decoder", "encoder", "gap", "price"]  # and no sweep


def test_unfinished_study() -> None:
    assert "16 of 20 planned runs have finished" in render({**STUDY, "planned": 20}, mixed())
    empty = render({}, [])
    Elements(empty)
    assert "nothing to conclude" in empty
    assert len(empty) < 50_000  # no pictures, no Plotly
    alone = render(STUDY, [run(elbo=None, gradient=None, curve=None)])
    assert "1 of 1 runs diverged" in alone
    Elements(alone)


def test_where_a_page_came_from() -> None:
    page = render(
        {**STUDY, "toml": "estimator = ['<exact>']\n", "damaged": ["runs/a.json"]}, arm("reinmax t=1 + x", -1)
    )
    assert "<pre><code>estimator = [&#x27;&lt;exact&gt;&#x27;]</code></pre>" in page
    assert "Left out, as they are broken: runs/a.json." in page
    assert "<h1>softhot: reinmax t=1 + x on digits</h1>" in page  # it is the only one
    assert "<fieldset" not in page[: page.index('<h2 id="seen">')]  # nothing to choose from


def test_pictures_of_models() -> None:
    records = drawn()
    page = render(STUDY, records)
    images = [attributes for tag, attributes in Elements(page).seen if tag == "img"]
    assert len(images) == 2 * 7  # of the first seed of each arm
    assert {(image["width"], image["height"]) for image in images} == {("140", "6"), ("28", "18")}
    for image in images:
        assert image["loading"] == "lazy"
        assert str(image["alt"]).endswith(tuple(record["arm"] for record in records))
    for bad in ("' onload='alert(1)", "aGVsbG8=", 7, None):
        assert "<img" not in render(STUDY, [run(pictures={"samples": bad})])


def test_a_large_study() -> None:
    records = large()
    assert len(records) == 600
    page = render(STUDY, records)
    assert len(page.encode()) < 10_000_000
    assert "Drawn are 36 of 120 arms, the best of each estimator among them." in page
    arms = summarise(records)
    shown = outcomes.leading(arms, 10)
    assert len(shown) == 10
    assert shown == sorted(shown, key=arms.index)
    assert {one.estimator for one in shown} == {one.estimator for one in arms}
    assert len(outcomes.leading(arms, 1)) == 4


def test_colours_and_markers_are_by_estimator() -> None:
    arms = summarise([*mixed(), *drawn()])
    names = marks(arms)
    assert len({(mark.colour, mark.symbol) for mark in names.values()}) == len(names) == 5
    found = exhibits.draw(arms)
    assert [*found] == ["gap", "sweep", "encoder", "decoder", "price", "budget", "curves", "cost"]
    for figure in found.values():
        shown = [trace for trace in figure.data if trace.name and trace.name.split(" ")[0] in names]
        assert shown
        for trace in shown:
            assert names[trace.name.split(" ")[0]].colour in (trace.marker.color, trace.line.color)


def test_a_sweep_is_of_arms_that_differ_in_temperature_alone() -> None:
    arms = summarise(drawn())
    groups = {name: {one.label for one in group} for name, group in outcomes.sweeps(arms).items()}
    assert groups == {
        "reinmax + categorical": {"reinmax t=0.5 + categorical", "reinmax t=1 + categorical"},
        "gumbel-softmax + concrete": {"gumbel-softmax t=0.5 + concrete", "gumbel-softmax t=1 + concrete"},
    }
    figure = outcomes.sweep(arms, marks(arms))
    lines = {(trace.legendgroup, trace.xaxis): trace for trace in figure.data}
    assert list(lines["gumbel-softmax + concrete", "x"].x) == [0.5, 1.0]
    assert list(lines["gumbel-softmax + concrete", "x"].y) == pytest.approx([-18.65, -19.0])
    assert list(lines["gumbel-softmax + concrete", "x2"].y) == pytest.approx([-18.15, -17.5])


def test_the_error_at_equal_cost_falls_to_the_bias() -> None:
    records = arm("reinmax t=1 + x", -1, -2, encoder={"bias": 0.3, "variance": 4.0}, decoder={"bias": 0.0})
    records += arm("leave-one-out + x", -1, -2, encoder={"bias": 0.01, "variance": 4.0})
    arms = summarise(records)
    found = {(trace.name, trace.xaxis): trace for trace in quality.budget(arms, marks(arms)).data}
    biased, fair = found["reinmax t=1 + x", "x"], found["leave-one-out + x", "x"]
    assert (biased.x[0], biased.x[-1], fair.x[0], fair.x[-1]) == (1, 400, 4, 400)
    assert biased.y[0] == pytest.approx(math.sqrt(0.3**2 + 4.0), rel=1e-4)  # five digits are kept
    assert biased.y[-1] == pytest.approx(math.sqrt(0.3**2 + 4.0 / 400), rel=1e-4)
    assert fair.y[-1] == pytest.approx(math.sqrt(4.0 / 100), rel=1e-4)  # a bias within its error is none
    assert found["reinmax t=1 + x", "x2"].y[-1] == pytest.approx(math.sqrt(1.5 / 400), rel=1e-4)


def test_choices_change_what_is_drawn() -> None:
    arms = summarise(drawn())
    names = marks(arms)
    curve = next(trace for trace in outcomes.curves(arms, names).data if trace.name == "exact + categorical")
    choices = curve.meta["choices"]
    assert choices["epochs"]["x"] == list(curve.x) == [1, 2, 3, 4, 5]
    assert choices["evaluations"]["x"] == [12_000, 24_000, 36_000, 48_000, 60_000]
    assert choices["seconds"]["x"] == pytest.approx([0.6, 1.2, 1.8, 2.4, 3.0])
    figure = quality.price(arms, names)
    soft = [trace for trace in figure.data if trace.name == "gumbel-softmax" and trace.yaxis == "y"]
    assert [trace.meta["choices"]["decoder"]["visible"] for trace in soft] == [False, True]
    fair = [trace for trace in figure.data if trace.name == "exact" and trace.yaxis == "y"]
    assert [list(trace.x) for trace in fair] == [[256], [256]]
    assert [trace.marker.symbol for trace in soft] == [("square",) * 3] * 2
    assert [trace.marker.symbol for trace in fair] == [("circle",), ("circle-open",)]  # the decoder's is unbiased


def test_overview_is_one_titled_figure() -> None:
    figure = outcomes.overview(mixed())
    assert (figure.layout.width, figure.layout.height) == (1200, 600)
    assert figure.layout.title.text
    assert {trace.xaxis for trace in figure.data} >= {"x", "x2"}
    assert "best 2 of 7 arms" in json.dumps(outcomes.overview(mixed(), most=2).to_plotly_json(), default=str)
    assert outcomes.overview([]).layout.title.text


def test_the_legend_of_the_overview_names_what_it_shows() -> None:
    """Once each; also an estimator whose gradient has nothing to be held against."""
    records = [*arm("a + categorical", -19.0), *arm("b + categorical", -20.0), *arm("c + categorical", -21.0)]
    records[1]["gradient"] = {"evaluations": 1}
    named = [trace.name for trace in outcomes.overview(records, most=2).data if trace.showlegend is not False]
    assert sorted(named) == ["a", "b", "c", "discrete ELBO", "objective", "over-states"]


def test_save_a_page(tmp_path: Path) -> None:
    drawing.save(outcomes.overview(mixed()), tmp_path / "overview.html")
    Elements((tmp_path / "overview.html").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="cannot write"):
        drawing.save(outcomes.overview(mixed()), tmp_path / "missing" / "overview.html")


def test_save_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = outcomes.overview(mixed())
    monkeypatch.setattr(type(figure), "to_image", lambda self, kind, **_: kind.encode())
    drawing.save(figure, tmp_path / "overview.svg")
    assert (tmp_path / "overview.svg").read_bytes() == b"svg"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_without_kaleido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\nKaleido is not here.\nInstall it")

    figure = outcomes.overview(mixed())
    monkeypatch.setattr(type(figure), "to_image", fail)
    reason = f"cannot write 'overview.{suffix}': Kaleido is not here; .* write overview.html instead"
    with pytest.raises(ValueError, match=reason) as caught:
        drawing.save(figure, tmp_path / f"overview.{suffix}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["overview.gif", "overview"])
def test_save_as_something_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"use \.html, \.png, \.svg, \.pdf"):
        drawing.save(outcomes.overview(mixed()), tmp_path / name)


def test_plotly_is_imported_late() -> None:
    sources = list(Path(softhot.lab.__path__[0]).rglob("*.py"))
    assert len(sources) > 30
    for path in sources:
        assert not re.search(r"^(from|import) plotly", path.read_text(encoding="utf-8"), re.MULTILINE), path

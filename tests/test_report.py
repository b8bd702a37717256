"""The summary against numbers by hand, the conclusion against numbers that flip it, and the page in a real browser."""

from __future__ import annotations

import html
import json
import math
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from softhot.lab import conclusion, drawing, figures, report, summary
from softhot.lab.conclusion import conclude, tied
from softhot.lab.report import render
from softhot.lab.summary import Spread, distinct, summarise

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}
DISCRETE, RELAXED = "the discrete log-likelihood", "the log-likelihood of the relaxed model"
STUDY: dict[str, Any] = {
    "command": "softhot compare --seeds 3",
    "created": "2026-01-02T03:04:05",
    "version": "0.1.0",
    "torch": "2.13.0",
    "python": "3.12.3",
    "skipped": [
        {"estimator": "exact", "term": "concrete", "reason": "the term has a temperature & none is drawn"},
        {"estimator": "reinmax", "term": "concrete", "reason": "the term has a temperature & none is drawn"},
        {"estimator": "gumbel-softmax", "term": "discretised", "reason": "the term is of the <hard> sample"},
    ],
    "planned": 12,
}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def quality(**given: float | None) -> dict[str, float | None]:
    usual = {"bias": 0.3, "bias_se": 0.02, "variance": 1.5, "cosine": 0.6, "cosine_se": 0.01, "cosine_of_mean": 0.9}
    found = {**usual, "snr": 0.8, **given}
    small = found["bias"] is not None and found["bias_se"] is not None and found["bias"] <= 2 * found["bias_se"]
    return {"bias_z": 0.5 if small else 20.0, **found}


def run(
    arm: str = "reinmax t=1 + categorical", seed: int = 0, elbo: float | None = -19.0, gap: float = 0.0, **given: Any
) -> dict[str, Any]:
    """One record; `given` replaces what is usual, `encoder` and `decoder` the quality of those gradients."""
    estimator, term = arm.split(" ")[0], arm.split(" + ")[-1]
    soft = estimator == "gumbel-softmax"
    parts = {
        "encoder": quality(**given.pop("encoder", {})),
        "decoder": quality(**{"bias": 0.3 if soft else 0.01, **given.pop("decoder", {})}),
    }
    return {
        "id": f"{arm}{seed}",
        "version": "0.1.0",
        "torch": "2.13.0",
        "config": {"data": "digits", "latents": 6, "classes": 4, "hidden": [64], "estimator": estimator, "seed": seed},
        "arm": arm,
        "estimator": estimator,
        "term": term,
        "temperature": 1.0,
        "seed": seed,
        "data": "digits, threshold; scikit-learn, load_digits",
        "bounds": {"concrete": RELAXED, "concrete-exact": RELAXED}.get(term) if soft else DISCRETE,
        "unbiased": estimator in ("exact", "leave-one-out"),
        "sample": "soft" if soft else "hard",
        "objective": None if elbo is None else elbo + gap,
        "elbo": elbo,
        "iwae": None if elbo is None else elbo + 0.9,
        "iwae_samples": 100,
        "log_likelihood": None if elbo is None else elbo + 1.0,
        "gap": gap,
        "valid_elbo": elbo,
        "seconds": 3.0,
        "evaluations": 60_000,
        "gradient": {"reference": "exact", "draws": 64, "images": 16, "start": parts, "end": parts},
        "curve": [{"epoch": k, "objective": -30.0 / k, "valid_elbo": -30.0 / k} for k in range(1, 6)],
        **given,
    }


def arm(name: str, *elbos: float | None, **given: Any) -> list[dict[str, Any]]:
    return [run(name, seed, elbo, **given) for seed, elbo in enumerate(elbos)]


def mixed() -> list[dict[str, Any]]:
    """Everything that can be wrong with a study: a diverged run, a missing seed, one seed, no log-likelihood."""
    return [
        *arm("reinmax t=1 + categorical", -18.0, -18.1, -18.2),
        *arm(
            "leave-one-out + categorical", -18.5, -18.7, evaluations=240_000, log_likelihood=None, encoder={"bias": 0.0}
        ),
        *arm("gumbel-softmax t=1 + concrete", -18.9, -19.1, -19.0, gap=1.5),
        *arm("gumbel-softmax t=1 + concrete-exact", -18.4, -18.6, -18.5, gap=1.4),
        *arm("gumbel-softmax t=1 + categorical", -17.0, None, float("nan"), gap=2.5),
        *arm("straight-through + categorical", None, encoder=dict.fromkeys(quality())),
        *arm("exact + <script>alert(1)</script>", -17.9, gradient={}, curve=[]),
    ]


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
    for tag, attributes in elements:
        for name in ("src", "href", "action", "srcset"):
            assert name not in attributes, (tag, attributes)
    assert not re.search(r"@import|url\(", page[: page.index("</style>")])
    assert sum(tag == "script" for tag, _ in elements) == 3  # Plotly once, the data, the page's own
    policy = next(attributes for _, attributes in elements if attributes.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
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
    assert sorted(pictures) == ["cost", "curves", "decoder", "encoder", "gap"]


def test_unfinished_study() -> None:
    assert "16 of 20 planned runs have finished" in render({**STUDY, "planned": 20}, mixed())
    empty = render({}, [])
    Elements(empty)
    assert "nothing to conclude" in empty
    assert len(empty) < 50_000  # no pictures, no Plotly
    alone = render(STUDY, [run(elbo=None, gradient=None, curve=None)])
    assert "1 of 1 runs diverged" in alone
    Elements(alone)


def test_size_of_a_large_study() -> None:
    rng = random.Random(0)
    names = [
        f"gumbel-softmax t={t / 10:g} + {term}" for t in range(1, 26) for term in ("categorical", "concrete", "x", "y")
    ]
    curve = [{"epoch": k, "valid_elbo": -30 / k + rng.random()} for k in range(1, 101)]
    records = [run(name, seed, -19 + rng.random(), curve=curve) for name in names for seed in range(5)]
    assert len(records) == 500
    assert len(render(STUDY, records).encode()) < 10_000_000


def test_colours_and_markers_are_by_estimator() -> None:
    arms = summarise(mixed())
    marks = figures.marks(arms)
    assert len({(mark.colour, mark.symbol) for mark in marks.values()}) == len(marks) == 5
    for figure in (figures.gap(arms), figures.encoder(arms), figures.decoder(arms), figures.cost(arms)):
        drawn = [trace for trace in figure.data if trace.name in marks and trace.mode.startswith("markers")]
        assert drawn
        for trace in drawn:
            assert trace.marker.color == marks[trace.name].colour
    for trace in figures.curves(arms).data:
        if trace.mode == "lines" and trace.name:
            assert trace.line.color == marks[trace.name.split()[0]].colour


def test_overview_is_one_titled_figure() -> None:
    figure = figures.overview(mixed())
    assert (figure.layout.width, figure.layout.height) == (1200, 600)
    assert figure.layout.title.text
    assert {trace.xaxis for trace in figure.data} >= {"x", "x2"}
    assert "best 2 of 7 arms" in json.dumps(figures.overview(mixed(), most=2).to_plotly_json(), default=str)
    assert figures.overview([]).layout.title.text


def test_save_a_page(tmp_path: Path) -> None:
    drawing.save(figures.overview(mixed()), tmp_path / "overview.html")
    Elements((tmp_path / "overview.html").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="cannot write"):
        drawing.save(figures.overview(mixed()), tmp_path / "missing" / "overview.html")


def test_save_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = figures.overview(mixed())
    monkeypatch.setattr(type(figure), "to_image", lambda self, kind, **_: kind.encode())
    drawing.save(figure, tmp_path / "overview.svg")
    assert (tmp_path / "overview.svg").read_bytes() == b"svg"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_without_kaleido(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\nKaleido is not here.\nInstall it")

    figure = figures.overview(mixed())
    monkeypatch.setattr(type(figure), "to_image", fail)
    reason = f"cannot write 'overview.{suffix}': Kaleido is not here; .* write overview.html instead"
    with pytest.raises(ValueError, match=reason) as caught:
        drawing.save(figure, tmp_path / f"overview.{suffix}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["overview.gif", "overview"])
def test_save_as_something_unknown(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"use \.html, \.png, \.svg, \.pdf"):
        drawing.save(figures.overview(mixed()), tmp_path / name)


def test_plotly_is_imported_late() -> None:
    for module in (conclusion, drawing, figures, report, summary):
        assert not re.search(
            r"^(from|import) plotly", Path(str(module.__file__)).read_text(encoding="utf-8"), re.MULTILINE
        )


PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const rows = () => [...document.querySelectorAll(".ranking tbody tr")].filter((row) => !row.hidden);
  const column = (i) => rows().map((row) => row.cells[i].dataset.value ?? row.cells[i].textContent);
  const heads = [...document.querySelectorAll(".ranking thead th")];
  const click = (i) => {
    heads[i].querySelector("button").click();
    return [heads[i].getAttribute("aria-sort"), column(i)];
  };
  const elbo = heads.findIndex((head) => head.textContent === "discrete ELBO");
  const found = { up: click(elbo), down: click(elbo), arms: click(1), rank: heads[0].getAttribute("aria-sort") };
  const filter = document.getElementById("filter");
  filter.value = "GUMBEL exact";
  filter.dispatchEvent(new Event("input"));
  found.filtered = column(1);
  found.count = document.getElementById("count").textContent;
  found.drawn = [...document.querySelectorAll(".js-plotly-plot")].map((plot) => [
    plot.id, plot.querySelectorAll(".main-svg").length, plot.querySelectorAll(".point, .js-line").length]);
  found.ink = document.getElementById("gap").layout.font.color;
  found.overflow = document.documentElement.scrollWidth > innerWidth;
  const result = document.createElement("output");
  result.id = "probe";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
}, 3000));
</script></body>"""


def browse(page: str, folder: Path, *arguments: str) -> dict[str, Any]:
    (folder / "page.html").write_text(page.replace("</body>", PROBE), encoding="utf-8")
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--disable-sync", *arguments]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    dump = subprocess.run(
        [*command, (folder / "page.html").as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    found = re.search(r'<output id="probe">(.*?)</output>', dump.stdout, re.DOTALL)
    assert found, dump.stderr
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_page_in_a_browser(page: str, folder: Path) -> None:
    found = browse(page, folder, "--window-size=1280,900", "--blink-settings=preferredColorScheme=0")
    assert [name for name, *_ in found["drawn"]] == ["gap", "encoder", "decoder", "curves", "cost"]
    assert all(layers >= 2 and marks > 0 for _, layers, marks in found["drawn"])
    for direction, sign in (("up", 1), ("down", -1)):
        order, cells = found[direction]
        numbers = [float(cell) for cell in cells if cell]
        assert order == {1: "ascending", -1: "descending"}[sign]
        assert numbers == sorted(numbers, key=lambda number: sign * number)
        assert len(numbers) == 6
        assert cells[-1] == ""  # what is not finite comes last, in either direction
    assert found["arms"][0] == "ascending"
    assert found["rank"] == "none"
    assert [text.split(" ", 1)[1] for text in found["filtered"]] == ["gumbel-softmax t=1 + concrete-exact"]
    assert found["count"] == "1 of 7 arms"
    assert found["ink"] == "#e4e7ea"  # of the dark theme
    assert not found["overflow"]

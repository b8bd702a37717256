"""What people complain of where they use relaxed categorical variables, and do not find here."""

from __future__ import annotations

import io
import json
import multiprocessing
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.distributions as td
from test_distributions import Case, cases, random
from torch import Tensor
from torch.nn.functional import gumbel_softmax as torch_gumbel_softmax

import softhot.distributions as sd
from softhot.functional import gumbel_softmax, relaxed_kl, relaxed_mean
from tests.integrands import seeded

INF = float("inf")


# ---- a temperature for every row, as a column


@cases("relaxed", "log of relaxed")
def test_a_column_of_temperatures_is_one_for_each_row(case: Case) -> None:
    """torch needs a column to draw samples, and gives densities of another shape with it."""
    logits, column = random(2, 3, 4), torch.linspace(0.4, 1.5, 6).reshape(2, 3, 1)
    q, rows = case.make(logits, column), case.make(logits, column.squeeze(-1))
    assert q.batch_shape == case.make(logits, column, of="theirs").batch_shape == (2, 3)
    assert torch.equal(q.sample(generator=seeded()), rows.sample(generator=seeded()))
    value = q.sample((5,))
    assert torch.equal(q.log_prob(value), rows.log_prob(value))
    assert torch.equal(q.entropy(), rows.entropy())
    assert torch.equal(q.mean, rows.mean)
    assert q.expand((7, 2, 3)).log_prob(value[0]).shape == (7, 2, 3)
    theirs = case.make(logits[0], column[0], of="theirs")
    assert theirs.log_prob(theirs.sample()).shape == (3, 3)
    assert torch.equal(td.kl_divergence(q, case.make(logits, 1.0)), td.kl_divergence(rows, case.make(logits, 1.0)))
    with pytest.raises(ValueError, match=r"temperature of shape \(3, 2\) does not broadcast .*use a number, or"):
        case.make(logits[0], torch.ones(3, 2))


def test_a_column_of_temperatures_in_functions() -> None:
    logits, column = random(3, 4), torch.tensor([[0.3], [1.0], [5.0]])
    assert torch.equal(relaxed_mean(logits, column), relaxed_mean(logits, column[:, 0]))
    assert torch.equal(
        relaxed_kl(logits, column, logits.flip(0), 1.0), relaxed_kl(logits, column[:, 0], logits.flip(0), 1.0)
    )
    rows = gumbel_softmax(logits, column[:, 0], generator=seeded())
    assert torch.equal(gumbel_softmax(logits, column, generator=seeded()), rows)
    for dim in (0, -2):
        assert torch_gumbel_softmax(logits.T, column.T, dim=dim).shape == (4, 3)
        assert torch.equal(gumbel_softmax(logits.T, column.T, dim=dim, generator=seeded()), rows.T)


def test_a_binary_variable_has_no_classes_for_a_column() -> None:
    with pytest.raises(ValueError, match=r"temperature of shape \(3, 1\) does not broadcast to the batch shape \(3,\)"):
        sd.RelaxedBernoulli(torch.ones(3, 1), logits=torch.zeros(3))


# ---- half precision and many classes


@cases()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_in_half_precision_are_those_of_single_rounded(case: Case, dtype: torch.dtype) -> None:
    logits = random(20, 6).to(dtype)
    q, single = case.make(logits, 0.5), case.make(case.make(logits, 0.5).logits.float(), 0.5)
    for name in ("mean", "variance") if case.space != "log" else ("mean",):
        found = getattr(q, name)
        assert found.dtype == dtype
        # four roundings: of the logits, which are normalised again, of their probabilities, and of the result
        torch.testing.assert_close(found.float(), getattr(single, name), rtol=4 * torch.finfo(dtype).eps, atol=1e-3)
    log_prob = q.log_prob(q.sample(generator=seeded()))
    assert log_prob.dtype == q.entropy().dtype == dtype
    assert log_prob.isfinite().all()
    assert q.entropy().isfinite().all()


@cases("one-hot", "relaxed", "log of relaxed")
@pytest.mark.parametrize("classes", [4096, 50_000])
def test_probabilities_of_many_classes_are_a_simplex(case: Case, classes: int) -> None:
    """torch refuses its own: their float32 sum is not one to within 1e-6."""
    logits = random(8, classes)
    q = case.make(logits, 0.5, validate_args=True)
    assert q.log_prob(q.sample()).isfinite().all()
    again = case.ours(*([0.5] if case.relaxed else []), probs=q.probs, validate_args=True)
    assert again.log_prob(again.sample()).isfinite().all()
    assert again.arg_constraints["probs"].check(again.probs).all()
    assert not again.arg_constraints["probs"].check(again.probs * 1.001).any()


# ---- the boundary


@pytest.mark.parametrize("t", [0.5, 1.0, 2.0, 5.0])
def test_densities_at_the_boundary_are_never_nan(t: float) -> None:
    vertex = torch.tensor([1.0, 0.0, 0.0])
    theirs = td.RelaxedOneHotCategorical(torch.tensor(t), logits=torch.zeros(3), validate_args=False)
    assert theirs.log_prob(vertex).isnan()
    # at (1 - 2 e, e, e) the logarithm is log(2 t^2 / 2^3) + (t - 2) log(e) as e falls, and its limit is ours
    limit = 0.0 if t == 2.0 else INF if t < 2 else -INF
    assert sd.RelaxedOneHotCategorical(t, logits=torch.zeros(3)).log_prob(vertex).item() == pytest.approx(limit)
    assert sd.ExpRelaxedOneHotCategorical(t, logits=torch.zeros(3)).log_prob(vertex.log()) == -INF
    binary = sd.RelaxedBernoulli(t, logits=torch.tensor(0.0)).log_prob(torch.tensor([0.0, 1.0]))
    assert binary.tolist() == [0.0 if t == 1 else INF if t < 1 else -INF] * 2


# ---- the state of the process

STATE = """
import json, locale, logging, os, random, signal, sys, warnings
import numpy as np, torch
from torch.distributions import Distribution

def state():
    return [
        Distribution._validate_args, str(torch.get_default_dtype()), str(torch.get_default_device()),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision(), torch.is_anomaly_enabled(),
        torch.get_rng_state().tolist(), repr(np.random.get_state()), repr(random.getstate()), repr(np.geterr()),
        repr(warnings.filters), logging.root.level, len(logging.root.handlers), locale.setlocale(locale.LC_ALL),
        repr(signal.getsignal(signal.SIGINT)), sorted(os.environ), sys.getrecursionlimit(), os.getcwd(),
    ]

torch.manual_seed(3)
import scipy.sparse, torch.distributions.kl, torch.utils.checkpoint, torch.utils.weak  # with filters of their own
before = state()
"""

CALLS = """
import softhot, softhot.bounds, softhot.distributions as sd, softhot.estimators, softhot.functional as F, softhot.kl
imported = state()
logits, generator = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
logits.requires_grad_()
for q in (
    sd.OneHotCategorical(logits=logits), sd.RelaxedOneHotCategorical(0.5, logits=logits),
    sd.ExpRelaxedOneHotCategorical(0.5, logits=logits), sd.RelaxedBernoulli(0.5, logits=logits, validate_args=False),
):
    z = q.sample((2,), generator=generator)
    total = q.log_prob(z).sum() + q.entropy().sum() + q.mean.sum() + sd.kl_divergence(q, q).sum()
    total.backward()
F.gumbel_softmax(logits, 0.5, hard=True, generator=generator).sum().backward()
F.straight_through(logits, generator=generator).sum().backward()
try:
    sd.RelaxedOneHotCategorical(-1.0, logits=logits)
except ValueError:
    pass
used = state()
changed = [[pair for pair in zip(*two) if pair[0] != pair[1]] for two in ((before, imported), (imported, used))]
print(json.dumps(changed))
"""


def test_nothing_of_the_process_is_changed_by_an_import_or_a_call() -> None:
    done = subprocess.run([sys.executable, "-c", STATE + CALLS], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]


# ---- copies that leave the process


def restored(value: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


def test_samples_are_plain_tensors_in_files() -> None:
    q = sd.RelaxedOneHotCategorical(0.5, logits=random(3, 4))
    sample = q.sample()
    loaded = restored({"sample": sample, "logits": q.logits}, weights_only=True)
    assert type(sample) is type(loaded["sample"]) is Tensor
    assert torch.equal(loaded["sample"], sample)


@cases()
def test_distributions_are_loaded_as_weights_where_their_class_is_allowed(case: Case) -> None:
    q = case.make(random(3, 4))
    with torch.serialization.safe_globals([case.ours]):
        loaded = restored(q, weights_only=True)
    value = q.sample()
    assert torch.equal(loaded.log_prob(value), q.log_prob(value))


def test_distributions_go_to_a_process_that_starts_afresh() -> None:
    q = sd.RelaxedOneHotCategorical(torch.tensor([0.5, 2.0]), logits=random(2, 4))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert torch.equal(pool.apply(q.entropy), q.entropy())
        there = pool.apply(q.expand, ((3, 2),))
    assert type(there) is type(q)
    assert there.batch_shape == (3, 2)

"""The compiled exact values against the plain-torch ones, which other tests hold to what we did not write."""

import math
import subprocess
import sys

import pytest
import torch

from softhot.functional import choice_probabilities, expected_max, relaxed_entropy, relaxed_kl, relaxed_mean
from softhot.kernels import choice_launch, choice_tables, routes
from softhot.kernels.choice import (
    Affine,
    contrast,
    expected,
    expected_reference,
    probabilities,
    probabilities_reference,
)

LIMIT = {torch.float64: 1e-12, torch.float32: 1e-6}
SCALES = {"gumbel": (1e-3, 0.7, 1.0, 30.0), "-gumbel": (0.01, 1.0, 8.0), "normal": (0.1, 1.0, 20.0)}
CASES = [(noise, scale) for noise, scales in SCALES.items() for scale in scales]
cases = pytest.mark.parametrize(("noise", "scale"), CASES)
AFFINE = Affine(lambda s: 1 / (1 + s), lambda s, count: count * s)
dtypes = pytest.mark.parametrize("dtype", LIMIT, ids=str)
classes = pytest.mark.parametrize("count", [1, 2, 5, 33, 1500])


def logits(*shape, dtype, seed=0, spread=3.0):
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * spread
    return drawn.to(dtype)


def close(value, wanted, dtype, of=1.0):
    torch.testing.assert_close(value.double(), wanted.double(), rtol=of * LIMIT[dtype], atol=of * LIMIT[dtype])


@cases
@dtypes
@classes
@pytest.mark.parametrize("learned", [False, True], ids=["number", "learned"])
def test_values_and_gradients(noise, scale, dtype, count, learned):
    m = logits(4, count, dtype=dtype).requires_grad_()
    other = logits(4, count, dtype=dtype, seed=1, spread=1.0).requires_grad_() if noise == "-gumbel" else None
    s = torch.tensor(scale, dtype=torch.float64, requires_grad=True) if learned else scale
    leaves = [x for x in (m, other, s) if isinstance(x, torch.Tensor)]
    wide = m.double(), None if other is None else other.double()
    size = 1 + scale
    call = (x.detach() if isinstance(x, torch.Tensor) else x for x in (m, other, s))
    assert choice_launch.survey(*call, noise, False, False)[2]
    for affine in (None, AFFINE):
        compiled = contrast(m, other, s, noise, affine) if affine else expected(m, other, s, noise)
        reference = expected_reference(*wide, s, noise, affine)
        close(compiled, reference, dtype, count if affine else size)
        weights = logits(4, dtype=torch.float64, seed=2, spread=1.0)
        found = torch.autograd.grad(compiled, leaves, weights.to(compiled.dtype))
        wanted = torch.autograd.grad(reference, leaves, weights)
        for one, two in zip(found, wanted, strict=True):
            close(one, two, dtype, size * max(1.0, two.abs().max().item()))


@cases
@dtypes
@classes
@pytest.mark.parametrize("learned", [False, True], ids=["number", "learned"])
def test_probabilities_and_their_gradients(noise, scale, dtype, count, learned):
    m = logits(4, count, dtype=dtype).requires_grad_()
    s = torch.tensor(scale, dtype=torch.float64, requires_grad=True) if learned else scale
    leaves = [x for x in (m, s) if isinstance(x, torch.Tensor)]
    compiled, reference = probabilities(m, s, noise), probabilities_reference(m.double(), s, noise)
    close(compiled, reference, dtype)
    weights = logits(4, count, dtype=dtype, seed=2, spread=1.0)
    found, wanted = (torch.autograd.grad((p * weights).sum(), leaves) for p in (compiled, reference))
    for one, two in zip(found, wanted, strict=True):
        close(one, two, dtype, 4 * max(1.0, two.abs().max().item()))


@cases
@pytest.mark.parametrize("pair", [False, True], ids=["alone", "pair"])
def test_what_an_operator_computes_without_its_kernel(noise, scale, pair, monkeypatch):
    """Numbers and derivatives of the plain-torch implementation, for devices that have no kernel."""
    m, g = (logits(4, 5, dtype=torch.float64, seed=seed) for seed in (0, 2))
    other, s = logits(4, 5, dtype=torch.float64, seed=1) if pair else None, torch.tensor(scale, dtype=torch.float64)
    calls = [
        (torch.ops.softhot.expected_max, (m, other, s, noise, True, True)),
        (torch.ops.softhot.choice_probabilities, (m, s, noise)),
        (choice_launch.curve, (m, s, noise, g, True)),
    ]
    compiled = [function(*arguments) for function, arguments in calls]
    monkeypatch.setattr(choice_launch, "compiled", lambda name: None)
    for one, (function, arguments) in zip(compiled, calls, strict=True):
        for found, wanted in zip(one, function(*arguments), strict=True):
            used = slice(None if pair or len(found) != choice_tables.STRIDE else -1)  # of others alone
            close(found[used], wanted[used], torch.float64, 100 * (1 + scale))


def test_operators_state_their_shapes_and_derivatives():
    def drawn(seed):
        return logits(3, 4, dtype=torch.float64, seed=seed).requires_grad_()

    operators = torch.ops.softhot
    for scale in (torch.tensor(0.7, dtype=torch.float64, requires_grad=True), torch.tensor([0.5, 1.0, 2.0])):
        for other, noise in ((drawn(1), "-gumbel"), (None, "gumbel")):
            arguments = (drawn(0), other, scale, noise, True, scale.requires_grad)
            torch.library.opcheck(operators.expected_max.default, arguments)
        torch.library.opcheck(operators.choice_probabilities.default, (drawn(0), scale, "gumbel"))
        arguments = (drawn(0).detach(), scale.detach(), "gumbel", drawn(2).detach(), True)
        torch.library.opcheck(operators.choice_probabilities_backward.default, arguments)


def everything(m, other, t):
    pair, alone = contrast(m, other, t, "-gumbel", AFFINE), expected(m, None, t, "gumbel")
    return (pair * alone).sum() + (probabilities(m, t, "normal") * other).sum()


@pytest.mark.parametrize("temperature", [0.8, torch.tensor(0.8, requires_grad=True), torch.tensor([[0.5], [2.0]])])
def test_compiled_as_one_graph(temperature):
    m, other = (logits(2, 3, 4, dtype=torch.float32, seed=seed).requires_grad_() for seed in (0, 1))
    leaves = [x for x in (m, other, temperature) if isinstance(x, torch.Tensor) and x.requires_grad]
    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    eager, graph = everything(m, other, temperature), compiled(m, other, temperature)
    close(graph, eager, torch.float32, 10 * eager.abs().item())
    gradients = (torch.autograd.grad(value, leaves) for value in (graph, eager))
    for one, two in zip(*gradients, strict=True):
        close(one, two, torch.float32, 10 * max(1.0, two.abs().max().item()))


def test_mapped_over_logits_and_temperatures():
    m, other = (logits(5, 4, dtype=torch.float64, seed=seed) for seed in (0, 1))
    t = torch.linspace(0.2, 3.0, 5, dtype=torch.float64)
    for function in (lambda m, t: relaxed_mean(m, t), lambda m, t: relaxed_kl(m, t, other[0], 0.7)):
        one_by_one = torch.stack([function(m[i], t[i]) for i in range(5)])
        close(torch.vmap(function)(m, t), one_by_one, torch.float64)
        each_row = torch.stack([torch.stack([function(m[i], t[j]) for i in range(5)]) for j in range(5)])
        close(torch.vmap(lambda t, f=function: f(m, t))(t), each_row, torch.float64)
    slopes = torch.vmap(torch.func.grad(lambda m: relaxed_entropy(m, t[2])))(m)
    close(slopes[1], torch.func.grad(lambda m: relaxed_entropy(m, t[2]))(m[1]), torch.float64)


def test_the_comparison_sees_a_wrong_table(monkeypatch):
    right = choice_tables.tables

    def wrong(*arguments):
        table = right(*arguments)
        return choice_tables.Tables(**{**vars(table), "exponent": table.exponent * (1 + 1e-5)})

    monkeypatch.setattr(choice_launch, "tables", wrong)
    m = logits(4, 5, dtype=torch.float32)
    with pytest.raises(AssertionError, match="not close"):
        close(expected(m, None, 0.7, "gumbel"), expected_reference(m, None, 0.7, "gumbel", None), torch.float32)


@pytest.mark.parametrize("learned", [False, True], ids=["number", "learned"])
def test_derivatives_of_derivatives(learned):
    m, other = logits(3, 4, dtype=torch.float64).requires_grad_(), logits(3, 4, dtype=torch.float64, seed=1)
    s = torch.tensor(0.8, dtype=torch.float64, requires_grad=True) if learned else 0.8
    leaves = (m, s) if learned else (m,)

    def functions(m, s=s):
        return relaxed_kl(m, 1.0, other, s), relaxed_entropy(m, s), relaxed_mean(m, s)

    torch.autograd.gradcheck(functions, leaves)
    torch.autograd.gradgradcheck(functions, leaves)


def test_batches_of_gradients():
    m = logits(5, 4, dtype=torch.float64).requires_grad_()
    weights = logits(3, 5, 4, dtype=torch.float64, seed=2)
    for value in (relaxed_mean(m, 0.7), relaxed_entropy(m, 0.7)[:, None].expand(5, 4)):
        (together,) = torch.autograd.grad(value, m, weights, is_grads_batched=True, retain_graph=True)
        one_by_one = [torch.autograd.grad(value, m, w, retain_graph=True)[0] for w in weights]
        close(together, torch.stack(one_by_one), torch.float64)


def test_each_row_may_have_its_own_scale():
    m = logits(2, 40, 4, dtype=torch.float64).requires_grad_()
    s = torch.linspace(0.1, 3.0, 80, dtype=torch.float64).view(2, 40).requires_grad_()
    for t in (s, s[:, :1], s[0]):
        value = relaxed_entropy(m, t)
        wanted = [relaxed_entropy(m[i, j], t.expand(2, 40)[i, j].item()) for i in range(2) for j in range(0, 40, 5)]
        close(value[:, ::5].flatten(), torch.stack(wanted), torch.float64, 10.0)
        (slope,) = torch.autograd.grad(value.sum(), s, retain_graph=True)
        step = 1e-5
        raised, lowered = (relaxed_entropy(m, t.detach() + sign * step).sum() for sign in (1, -1))
        torch.testing.assert_close(slope.sum(), (raised - lowered) / (2 * step), rtol=1e-6, atol=1e-6)


@dtypes
def test_impossible_and_unknown_classes(dtype):
    inf, nan = math.inf, math.nan
    m = torch.tensor([[0.0, -inf, 1.0], [nan, 0.0, 0.0], [-inf, 2.0, -inf]], dtype=dtype)
    p = choice_probabilities(m, 0.5)
    close(p[0, [0, 2]], choice_probabilities(m[0, [0, 2]], 0.5), dtype)
    assert p[0, 1] == 0
    assert p[1].isnan().all()
    assert p[2].tolist() == [0.0, 1.0, 0.0]
    count = Affine(lambda s: 0.0, lambda s, count: count)
    assert contrast(m, None, 0.5, "gumbel", count).tolist()[::2] == [2.0, 1.0]
    assert not choice_launch.survey(m, None, 0.5, "gumbel", False, False)[2]
    assert torch.equal(expected_max(m[:, :0], 0.5), torch.full((3,), -inf, dtype=dtype))


@dtypes
def test_many_unlikely_classes_count_together(dtype):
    """Each of a million classes has a chance of 1.5e-8, and all of them of one in 66."""
    m = torch.full((1, 1_000_001), -18.0, dtype=dtype)
    m[0, 0] = 0.0
    p = probabilities(m, 1e-3, "gumbel")  # all but a softmax
    torch.testing.assert_close(
        p[0, 0].double(), 1 / (1 + 1e6 * torch.tensor(-18.0).double().exp()), rtol=1e-5, atol=0.0
    )
    assert abs(p.sum(dtype=torch.float64).item() - 1) < 1e-5


@dtypes
def test_a_row_does_not_depend_on_its_neighbours(dtype):
    """Short rows are worked on in eights, each at nodes of its own: runs that are trained together are as alone."""
    m = logits(21, 6, dtype=dtype)
    m[::3] *= 10
    together, alone = expected(m, None, 0.7, "gumbel"), [expected(row, None, 0.7, "gumbel") for row in m]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-14, atol=1e-14)
    assert torch.equal(probabilities(m, 0.7, "gumbel"), torch.stack([probabilities(row, 0.7, "gumbel") for row in m]))


@dtypes
def test_the_number_of_threads_changes_nothing(dtype):
    m, before = logits(3000, 17, dtype=dtype), torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(choice_probabilities(m, 0.5))
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_without_the_compiler(monkeypatch):
    m, other = logits(3, 4, dtype=torch.float32), logits(3, 4, dtype=torch.float32, seed=1)
    with_it = relaxed_kl(m, 0.7, other, 0.5), relaxed_entropy(m, 0.7), relaxed_mean(m, 0.7)
    monkeypatch.setattr(choice_launch, "compiled", lambda name: None)
    assert routes.compiled("no such module") is None
    without = relaxed_kl(m, 0.7, other, 0.5), relaxed_entropy(m, 0.7), relaxed_mean(m, 0.7)
    for one, two in zip(with_it, without, strict=True):
        close(one, two, torch.float32, 10.0)


MANY = """
import resource, torch
from softhot.functional import relaxed_kl
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
q, p = torch.randn({shape}, requires_grad=True), torch.randn({shape})
relaxed_kl(q[:, :9], 0.7, p[:, :9], 0.5).sum().backward()
before = peak()
relaxed_kl(q, 0.7, p, 0.5).sum().backward()
assert q.grad.isfinite().all()
print((peak() - before) / 1024 / (q.numel() * 4 / 2**20))
"""


@pytest.mark.parametrize("shape", [(64, 50_000), (1, 1_000_000)], ids=str)
def test_memory_for_many_classes(shape):
    """The probabilities and the gradient, each of the size of the input, and one row in double; nothing per node."""
    code = MANY.format(shape=shape)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8  # in sizes of the input

"""The fused sampler: its random numbers, its rounding, its derivatives and its operators, in every way of a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from scipy import stats
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.func import grad, jacfwd, jacrev, jvp, vmap
from torch.library import opcheck
from torch.nn.functional import one_hot
from torch.testing import assert_close

from softhot.functional import gumbel_softmax, straight_through
from softhot.kernels import parallel, routes, sampler, sampler_cpu
from softhot.kernels.philox import exponential, new_seed, passing_seed, philox
from softhot.kernels.philox_cpu import BLOCK, LANES, words_of
from softhot.kernels.philox_cpu import exponential as exponential_of
from softhot.kernels.sampler import one_hot_sample, relaxed_sample, sample_reference
from softhot.testing import assert_mean

FALSE_ALARM = 1e-6  # of each statistical test, as in assert_mean
SEED, SEEDS = torch.tensor(7), torch.tensor([7, 8])
INF = math.inf

each_also = pytest.mark.parametrize("also", ["", "log", "hard", "straight"], ids=lambda also: also or "soft")
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# of torch's own, in its transforms and compilers
quiet = pytest.mark.filterwarnings(
    "ignore:.*is deprecated:DeprecationWarning",
    "ignore:.*is deprecated:FutureWarning",
    "ignore:Please use `torch.vmap` instead of `torch._vmap_internals.vmap`:FutureWarning",  # of torch 2.6's gradcheck
)
Sample = Callable[..., Tensor]


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)


def leaf(*shape: int) -> Tensor:
    """Between 1 and 3: logits, or temperatures."""
    return (2 + normal(*shape).clamp(-1, 1)).requires_grad_()


def scalar(t: float | Tensor, like: Tensor) -> Tensor:
    return t.to(like) if isinstance(t, Tensor) else like.new_tensor(t)


def operator(logits: Tensor, t: float | Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    pair: tuple[Tensor, Tensor] = torch.ops.softhot.relaxed_sample(logits, scalar(t, logits), seed, also)
    return pair


def of_pair(pair: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    return lambda *call: pair(*call) if call[3] == "log" else pair(*call)[bool(call[3])]


WAYS = {"direct": relaxed_sample, "operator": of_pair(operator), "reference": of_pair(sample_reference)}


def sampling(also: Any, way: Callable[..., Any] = relaxed_sample) -> Sample:
    """A sample as one tensor, where two come stacked; the temperature of a straight-through one is 1."""

    def sample(logits: Tensor, t: float | Tensor, seed: Tensor = SEED) -> Tensor:
        if also == "straight":
            t = torch.ones_like(t) if isinstance(t, Tensor) else 1.0
        out = way(logits, t, seed, also)
        return torch.stack(out) if also == "log" else out

    return sample


def weighted(z: Tensor) -> Tensor:
    return (z * torch.arange(z.shape[-1])).sum()


# ---- random numbers

WORDS = {  # kat_vectors of Random123: four words of a counter, two of a key, and the four of the result
    "zeros": "00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "ones": "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd",
    "pi": "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1",
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_known_answers(words: str) -> None:
    a, b, c, d, key_a, key_b, *expected = [torch.tensor(int(word, 16)) for word in words.split()]
    assert philox(a + (b << 32), int(c + (d << 32)), key_a + (key_b << 32)) == tuple(expected)


@njit
def fill(out: Any, words: Any, more: Any, seed: int) -> None:
    for block in range((out.size + BLOCK - 1) // BLOCK):
        part = out[block * BLOCK : (block + 1) * BLOCK]
        lanes = min(LANES, part.size)
        words_of(words, lanes, block, np.uint64(0), seed)
        exponential_of(part, words, more, 0, block, lanes, seed)


def gumbel(seed: int, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The compiled noise."""
    out, (words, more) = torch.empty(count, dtype=dtype), np.empty((2, BLOCK), np.uint32)
    fill(out.numpy(), words, more, seed)
    return -out.log()


def test_seeds_that_pass_are_those_that_stay() -> None:
    kept, passing = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(10):
        assert torch.equal(new_seed(torch.device("cpu"), kept), passing_seed(passing))
    assert torch.equal(kept.get_state(), passing.get_state())


COARSE = {torch.float32: 2.0**-17, torch.float64: 0.0}  # noise of 31 bits, between the tails


def rounding(x: Tensor, dtype: torch.dtype) -> float:
    return COARSE[dtype] + 8 * torch.finfo(dtype).eps * (1 + x[x.isfinite()].abs().max().item())


@each_dtype
@pytest.mark.parametrize("seed", [0, 1, 2**40 + 3, 2**63 - 1])
def test_the_noise_is_that_of_the_reference(seed: int, dtype: torch.dtype) -> None:
    for count in (1, 255, 1023, 1025, 300_000):  # of which a few are in each tail
        expected = -exponential(torch.tensor(seed), count).log()
        assert (gumbel(seed, count, dtype) - expected).abs().max() <= rounding(expected, dtype)


# ---- the kernel

SHAPES = [(1,), (5, 1), (3, 2), (7, 3), (300, 3), (70, 15), (70, 16), (2, 3, 341), (4, 1023), (4, 1024), (3, 1025)]
SHAPES += [(90, 1), (90, 8), (90, 9)]


@each_also
@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_is_the_definition_but_for_rounding(shape: tuple[int, ...], dtype: torch.dtype, also: str) -> None:
    logits = 3 * normal(*shape, dtype=dtype)
    logits[..., 1:].masked_fill_(logits[..., 1:] > 4, -INF)
    scores = logits.double() - exponential(SEED, logits.numel()).log().reshape(shape)
    error = rounding(scores, dtype)
    each_row = torch.logspace(-3, 3, math.prod(shape[:-1]), dtype=torch.float64).reshape(shape[:-1])
    for t in (1.0,) if also == "straight" else (1e-3, 0.5, 1.0, 1e3, each_row):
        first, second = operator(logits, t, SEED, also)
        rate = 1 / scalar(t, scores)[..., None]
        log = ((logits if also == "straight" else scores) * rate).log_softmax(-1)
        allowed = 2 * error * rate + 8 * torch.finfo(dtype).eps
        assert first.dtype == dtype
        assert ((first - log.exp()).abs() <= allowed * log.exp() + torch.finfo(dtype).tiny).all()
        if also == "log":
            assert (((second - log).abs() <= allowed) | (log == second)).all()
        elif also:
            assert torch.equal(second, one_hot(second.argmax(-1), shape[-1]).to(dtype))
            chosen = scores.gather(-1, second.argmax(-1, keepdim=True))
            assert (chosen >= scores.amax(-1, keepdim=True) - 2 * error).all()


@each_also
@each_dtype
def test_rows_that_are_impossible_or_hold_a_nan_are_nan(dtype: torch.dtype, also: str) -> None:
    """Of either sign: infinity minus infinity makes a negative one."""
    for classes in (1, 2, 3, 15, 16, 33):
        logits = normal(40, classes, dtype=dtype)
        clean = *operator(logits, 1.0, SEED, also), one_hot_sample(logits, SEED)
        logits[7] = -INF
        for row, value in ((12, math.nan), (20, -math.nan), (30, INF), (39, -math.nan)):
            logits[row, row % classes] = value
        for actual, expected in zip(
            (*operator(logits, 1.0, SEED, also), one_hot_sample(logits, SEED)), clean, strict=True
        ):
            expected[[7, 12, 20, 30, 39] if len(expected) else []] = math.nan
            assert_close(actual, expected, equal_nan=True)


@each_dtype
@pytest.mark.parametrize("classes", [2, 8, 9, 16, 17])
def test_the_first_of_several_largest_scores_is_marked(classes: int, dtype: torch.dtype) -> None:
    scores = normal(50, classes, dtype=dtype)
    for doubles in ([], [13], [0, 13, 49]):
        scores[doubles, -1] = scores[doubles].amax(-1)
        scores[doubles, 0] = scores[doubles, -1]
        hard = torch.empty_like(scores)
        mark_rows(scores.flatten().numpy(), hard.view(-1).numpy(), classes)
        assert torch.equal(hard, one_hot(scores.argmax(-1), classes).to(dtype))
        assert (hard[doubles, 0] == 1).all()


@njit
def mark_rows(scores: Any, hard: Any, classes: int) -> None:
    sampler_cpu._mark(scores, hard, classes)


@each_also
def test_empty_tensors_and_single_numbers(also: str) -> None:
    for shape in ((0, 3), (3, 0), (2, 0, 3), ()):
        logits = torch.zeros(shape, requires_grad=True)
        for way in WAYS.values():
            assert sampling(also, way)(logits, 0.5).shape[also == "log" :] == shape
            assert torch.autograd.grad(sampling(also, way)(logits, 0.5).sum(), logits)[0].shape == shape


@each_also
@each_dtype
def test_each_group_has_its_seed(dtype: torch.dtype, also: str) -> None:
    sample, seeds = sampling(also, WAYS["operator"]), torch.tensor([[3, 1, 4], [1, 5, 9]])
    for shape in ((3,), (5, 7), (100, 33), (2, 1025)):
        logits = normal(2, 3, *shape, dtype=dtype).requires_grad_()
        each = zip(logits.flatten(0, 1), seeds.flatten(), strict=True)
        together, alone = sample(logits, 0.8, seeds), torch.stack([sample(x, 0.8, s) for x, s in each], -len(shape) - 1)
        assert torch.equal(together, alone.unflatten(-len(shape) - 1, (2, 3)))
        assert_close(sampling(also)(logits, 0.8, seeds), together)


@each_also
def test_the_layout_does_not_matter(also: str) -> None:
    wide, t = normal(7, 10, 3, dtype=torch.float32), leaf(3, 1).detach().expand(3, 5)
    for logits in (wide.permute(2, 1, 0)[:, ::2], wide[:1, :5, :1].expand(3, 5, 4), wide.movedim(-1, 0)[:, 1:6]):
        for seed, plain in ((SEED, SEED), (SEEDS[:1].expand(3), SEEDS[[0, 0, 0]])):
            expected = sampling(also)(logits.contiguous(), t.contiguous(), plain)
            assert torch.equal(sampling(also)(logits, t, seed), expected)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield torch.set_num_threads
    torch.set_num_threads(1)


@each_also
@each_dtype
@pytest.mark.parametrize("classes", [3, 10, 17, 1000, 20_001])
@pytest.mark.parametrize("openmp", [True, False], ids=["openmp", "python"])
def test_threads_change_nothing(
    classes: int, dtype: torch.dtype, also: str, openmp: bool, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the number of pieces, which grows with theirs, though some rows are too far apart for others' ways."""
    logits, results = normal(5, 60_000 // classes, classes, dtype=dtype).requires_grad_(), []
    if not openmp:
        monkeypatch.setattr(parallel, "_openmp", lambda: None)
    for number in (1, 2, 3):
        threads(number)
        out = sampling(also)(logits, 0.1, torch.arange(5))
        results.append(torch.cat([out.flatten(), *torch.autograd.grad(weighted(out), logits)[0].flatten(1)]))
    assert all(torch.equal(result, results[0]) for result in results[1:])


# ---- statistics

LAGS = (1, 2, 3, 255, 256, 257, 512, 1024, 3072)  # neighbours, counters, words of a counter, blocks


def assert_uniform(u: Tensor) -> None:
    assert stats.chisquare((u.flatten() * 1000).long().bincount(minlength=1000).numpy()).pvalue > FALSE_ALARM


def assert_independent(streams: Tensor) -> None:
    """No correlation of normal variables, or of their squares, with later ones of a stream or those of another."""
    for z in (streams, (streams.square() - 1) / 2**0.5):
        later = [(z[:, : -LAGS[-1]] * z[:, lag : lag - LAGS[-1] or None]).flatten() for lag in LAGS]
        assert_mean(torch.stack(later, -1), torch.zeros(len(LAGS)))
        i, j = torch.combinations(torch.arange(len(z))).T
        assert_mean((z[i] * z[j]).T, torch.zeros(len(i)))


@each_dtype
def test_the_noise_is_uniform_and_independent(dtype: torch.dtype) -> None:
    streams = torch.stack([gumbel(seed, 102_400, dtype).double() for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**62)])
    uniform = torch.exp(-torch.exp(-streams))
    assert_uniform(uniform)
    with pytest.raises(AssertionError):
        assert_uniform(uniform**1.03)
    z = torch.special.ndtri(uniform)
    assert_independent(z)
    word, stream, size = z.clone(), z.clone(), z.clone()
    word.view(6, 100, 4, 256)[:, :, 1] = word.view(6, 100, 4, 256)[:, :, 0]
    stream[4] = stream[1]
    size[:, 1::2] = size[:, ::2].abs() * size[:, 1::2].sign()
    for broken in (word[:, :20_480], stream[:, :20_480], size[:, :20_480]):
        with pytest.raises(AssertionError, match="standard errors"):
            assert_independent(broken)


def test_no_number_comes_twice() -> None:
    """In all seeds and words; at 52 bits, as where they are densest, two of 60,000 are equal at a rate of 4e-7."""
    noise = torch.cat([gumbel(seed, 20_000, torch.float64) for seed in (0, 1, 2**32)])
    assert len(noise.unique()) == len(noise)


QUANTILES = torch.tensor([1e-6, 1e-7, 5.95e-8]).double()  # numbers of 24 bits have nothing above the last one
ROWS, CLASSES = 300, 1_000_000


def rare(noises: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """How many are above, and below, each quantile; the largest of each row; and where that is."""
    high, low, rows = -(-torch.log1p(-QUANTILES)).log(), -(-QUANTILES.log()).log(), []
    for noise in noises:
        tail = noise[(noise > high[0]) | (noise < low[0])][:, None]
        rows.append((torch.stack([tail > high, tail < low]).sum(1), *noise.max(0)))
    counts, largest, where = zip(*rows, strict=True)
    return torch.stack(counts).sum(0), torch.stack(largest), torch.stack(where)


def assert_tails(counts: Tensor) -> None:
    mean = QUANTILES.numpy() * ROWS * CLASSES
    tails = stats.poisson.cdf(counts, mean), stats.poisson.sf(counts - 1, mean)
    assert min(tail.min() for tail in tails) > FALSE_ALARM / 12, f"{counts.tolist()} where {mean} are due"


def test_a_million_classes() -> None:
    """The largest of so many is a Gumbel variable without atoms, and that of any class.

    In single precision two of 300 are equal at a rate of 1.1%, which makes three such pairs rarer than 1e-6.
    """
    counts, largest, where = rare(gumbel(seed, CLASSES) for seed in range(ROWS))
    assert_tails(counts)
    assert largest.max() > 16.6356  # the end of 24 bits
    assert len(largest.unique()) > ROWS - 3
    assert stats.kstest(largest.double() - math.log(CLASSES), "gumbel_r").pvalue > FALSE_ALARM
    assert stats.chisquare((where // 100_000).bincount(minlength=10).numpy()).pvalue > FALSE_ALARM
    for seed in (0, 1):
        assert one_hot_sample(torch.zeros(CLASSES), torch.tensor(seed)).argmax() == where[seed]


def test_numbers_of_24_bits_have_no_tail() -> None:
    uniform = (torch.rand(CLASSES, generator=torch.Generator().manual_seed(seed)) for seed in range(ROWS))
    counts, largest, _ = rare(-u[(u - 0.5).abs() > 0.49999].log().neg().log() for u in uniform)
    with pytest.raises(AssertionError, match="are due"):
        assert_tails(counts)
    assert len(largest.unique()) < ROWS - 3


# ---- derivatives

ARGUMENTS = {  # logits, temperatures, seeds
    "one temperature": (leaf(4), leaf(), SEED),
    "one for each row": (leaf(2, 3, 4), leaf(3), SEED),
    "groups": (leaf(2, 3, 4), leaf(2, 1), SEEDS),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
each_call = pytest.mark.parametrize("call", ARGUMENTS.values(), ids=ARGUMENTS.keys())
Call = tuple[Tensor, Tensor, Tensor]


@quiet
@each_way
@each_call
@pytest.mark.parametrize("also", ["", "log"], ids=["soft", "log"])
def test_derivatives(way: Callable[..., Any], call: Call, also: str) -> None:
    assert gradcheck(sampling(also, way), call, check_forward_ad=way is relaxed_sample)
    assert gradgradcheck(sampling(also, way), call)


@each_way
@each_call
@pytest.mark.parametrize("also", ["hard", "straight"])
def test_derivatives_of_one_hot_vectors(way: Callable[..., Any], call: Call, also: str) -> None:
    """They are those of the soft sample, or of the softmax, to every order."""
    results = []
    for z in (sampling(also, way)(*call), sampling("", way)(*call) if also == "hard" else call[0].softmax(-1)):
        total = weighted(z)
        for _ in range(3):
            order = torch.autograd.grad(total, call[:2], create_graph=True, allow_unused=True, materialize_grads=True)
            total = sum((g.sin().sum() for g in order), torch.zeros(()))
            results.append(order)
    assert_close(results[:3], results[3:])


@pytest.fixture(params=[True, False], ids=["numba", "without"])
def compiler(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(sampler, "compiled", lambda name: routes.compiled("no_such_kernel"))


@each_also
@pytest.mark.parametrize("rows", [3, 3000])  # few elements and many go different ways
def test_all_ways_agree(rows: int, also: str, compiler: None) -> None:
    def outcome(way: Callable[..., Any], t: float, learned: bool) -> list[Tensor]:
        logits, temperature = normal(rows, 7).requires_grad_(), torch.tensor(t, dtype=torch.float64, requires_grad=True)
        z = sampling(also, way)(logits, temperature if learned else t)
        inputs = [logits, temperature]
        return [z, *torch.autograd.grad(weighted(z), inputs, allow_unused=True, materialize_grads=True)][: 2 + learned]

    for t in (1e-3, 0.5, 1.0, 1e3):
        for learned in (True, False):
            expected = outcome(WAYS["reference"], t, learned)
            for way in WAYS.values():
                assert_close(outcome(way, t, learned), expected, rtol=1e-9, atol=1e-12)


@quiet
@each_also
def test_transforms(also: str) -> None:
    def f(logits: Tensor, t: Tensor) -> Tensor:
        return weighted(sampling(also)(logits, t).square()) if also == "log" else weighted(sampling(also)(logits, t))

    logits, t = call = leaf(3, 4), leaf()
    first, second = jacobian(f, call), hessian(f, call)
    assert_close(jacobian(f, call, vectorize=True), first)
    for transform in (grad, jacrev, jacfwd):
        assert_close(transform(f, (0, 1))(*call), first)
    assert_close(jvp(f, call, call)[1], sum(((g * x).sum() for g, x in zip(first, call, strict=True)), torch.zeros(())))
    for outer, inner in ((jacfwd, jacrev), (jacrev, jacfwd), (jacrev, jacrev), (jacfwd, jacfwd)):
        assert_close(outer(inner(f, (0, 1)), (0, 1))(*call), second)
    each = torch.stack([logits, 2 * logits])
    assert_close(vmap(grad(f), (0, None))(each, t), torch.stack([grad(f)(x, t) for x in each]))


@each_also
@pytest.mark.parametrize("dims", [(0, 0, 0), (1, None, None), (None, 0, None), (None, None, 0), (2, 1, 0)], ids=str)
def test_vmap(dims: tuple[int | None, ...], also: str) -> None:
    call = leaf(5, 3, 4), leaf(3), SEED
    batched = [x if d is None else torch.stack([x, x + 1], d) for x, d in zip(call, dims, strict=True)]
    each = zip(*[[x, x] if d is None else x.unbind(d) for x, d in zip(batched, dims, strict=True)], strict=True)
    together, alone = vmap(sampling(also), dims)(*batched), torch.stack([sampling(also)(*one) for one in each])
    assert_close(together, alone)
    gradients = [torch.autograd.grad(weighted(z), call[:2], allow_unused=True) for z in (together, alone)]
    assert_close(*gradients)


# ---- operators

CHECKED: dict[str, Any] = {
    "single": ("relaxed_sample", leaf(3, 5).detach().float().requires_grad_(), torch.tensor(0.5), SEED, ""),
    "learned": ("relaxed_sample", leaf(3, 5), leaf(), SEED, "log"),
    "groups": ("relaxed_sample", leaf(2, 3, 5), leaf(2, 1), SEEDS, "hard"),
    "turned": ("relaxed_sample", normal(5, 3).T, torch.tensor(1.0), SEED, "straight"),
    "gradient": ("relaxed_sample_backward", normal(5, 3).T, normal(3, 5), None, leaf(3)),
    "gradient of log": ("relaxed_sample_backward", leaf(3, 5), None, normal(5, 3).T, leaf()),
    "gradient of both": ("relaxed_sample_backward", leaf(3, 5), leaf(3, 5), leaf(3, 5), torch.tensor(0.5)),
    "one-hot": ("one_hot_sample", normal(5, 3).float().T, SEED),
    "one-hot, groups": ("one_hot_sample", normal(2, 3, 5), SEEDS),
}


@pytest.mark.parametrize("call", CHECKED.values(), ids=CHECKED.keys())
def test_operators_are_sound(call: tuple[Any, ...], compiler: None) -> None:
    opcheck(getattr(torch.ops.softhot, call[0]).default, call[1:])


class Model(torch.nn.Module):
    def forward(self, logits: Tensor, seed: Tensor) -> tuple[Tensor, ...]:
        fixed = [relaxed_sample(logits, 0.7, seed, also) for also in ("", "hard")]
        return *fixed, straight_through(logits), gumbel_softmax(logits, 0.7), gumbel_softmax(logits, 0.7, True)


@quiet
@pytest.mark.parametrize("backend", ["aot_eager", "inductor", "export"])
def test_compilers_of_torch(backend: str, unchecked: None) -> None:
    """From a seed they draw what the model draws, and new numbers at every call; all with their gradients."""
    torch._dynamo.reset()
    if backend == "export":
        dynamic = {0: torch.export.Dim("rows", min=2)}, None
        model: Any = torch.export.export(Model(), (leaf(9, 8), SEED), dynamic_shapes=dynamic).module()
    else:
        model = torch.compile(Model(), fullgraph=True, backend=backend, dynamic=True)
    for rows in (2_000, 30):
        logits, results = leaf(rows, 8), []
        for each in (model, Model()):
            out = each(logits, SEED)
            results.append([*out[:2], *torch.autograd.grad(weighted(out[0] + out[1] + out[2]), logits)])
        assert_close(*results)
        assert not any(map(torch.equal, model(logits, SEED)[2:], model(logits, SEED)[2:]))


@quiet
def test_compiled_transforms() -> None:
    def f(logits: Tensor) -> Tensor:
        return weighted(sampling("hard")(logits, 0.7))

    for transform in (grad(f), vmap(f), vmap(grad(f))):
        torch._dynamo.reset()
        compiled = torch.compile(transform, fullgraph=True, backend="aot_eager")
        assert_close(compiled(normal(2, 3, 4)), transform(normal(2, 3, 4)))

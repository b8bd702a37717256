r"""The relaxed one-hot sample, :math:`z = \operatorname{softmax}((\ell + G) / t)`, as torch operators.

Given a seed, a sample is a function: of logits of shape (\*groups, \*rows, K), of a temperature that broadcasts with
all but the classes, and of the seeds, of shape (\*groups). With x the scores :math:`\ell + G`, `also` asks for more:

- `""`: z alone;
- `"log"`: z and log z, finite where a class is possible;
- `"hard"`: z and the one-hot vector of the largest score, which has the gradient of z;
- `"straight"`: :math:`\operatorname{softmax}(\ell)` and that one-hot vector, with the gradient of the former; the
  temperature must be 1.

With gradients a in z (or the one-hot vector) and b in log z, the gradient in the logits is
:math:`(z \odot (a - c) + b) / t`, with :math:`c = \sum_k z_k a_k + b_k`.
"""

from __future__ import annotations

# mypy: disable-error-code="untyped-decorator, no-any-return"
from typing import Any, Literal

import torch
from torch import Tensor

from softhot.kernels.parallel import run
from softhot.kernels.philox import exponential, new_seed, passing_seed
from softhot.kernels.routes import at_once, beside, compiled, direct, front, mapped, needs_gradient, operator, route
from softhot.kernels.temper import by_row, column, tempered

__all__ = ["Also", "largest", "one_hot_sample", "relaxed_sample", "sample_reference", "with_gradient_of"]

Also = Literal["", "log", "hard", "straight"]


def relaxed_sample(
    logits: Tensor,
    temperature: float | Tensor,
    seed: Tensor | None,
    also: Also = "",
    generator: torch.Generator | None = None,
) -> Any:
    """z, or both z and log z, or the one-hot vector alone, with gradients; without a seed, by one of the generator."""
    way = route(logits, temperature)
    if way == "direct":
        seed = passing_seed(generator) if seed is None else seed
        if needs_gradient(logits, temperature):
            out = _direct(logits, temperature, seed, also)
            return out[1] if also in ("hard", "straight") else out
        pair = _draw(logits, temperature, seed, also)
        return pair if also == "log" else pair[1] if also else pair[0]
    seed = new_seed(logits.device, generator) if seed is None else seed
    if mapped(logits) and type(temperature) is float:
        return at_once(lambda logits, seed: relaxed_sample(logits, temperature, seed, also), logits, seed)
    if way == "reference":
        pair = sample_reference(logits, temperature, seed, also)
    else:
        t = temperature if isinstance(temperature, Tensor) else logits.new_full((), temperature)
        pair = torch.ops.softhot.relaxed_sample(logits, t, seed, also)
    return pair if also == "log" else pair[1] if also else pair[0]


def one_hot_sample(logits: Tensor, seed: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
    """The one-hot vector of the largest score, without gradient; without a seed, by one of the generator."""
    if route(logits) == "direct":
        return _choose(logits, passing_seed(generator) if seed is None else seed)
    seed = new_seed(logits.device, generator) if seed is None else seed
    if mapped(logits):
        return at_once(one_hot_sample, logits, seed)
    return torch.ops.softhot.one_hot_sample(logits.detach(), seed)


def sample_reference(logits: Tensor, temperature: float | Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    """The same in plain torch, differentiable in every mode and to every order."""
    scores = _scores(logits, seed)
    log = tempered(scores, temperature).to(logits.dtype).log_softmax(-1)
    soft = logits.softmax(-1) if also == "straight" else log.exp()
    if also == "log":
        return soft, log
    if not also:
        return soft, logits.new_empty(0)
    # with_gradient_of has no forward derivatives beyond the first
    return soft, largest(scores.detach()) + (soft - soft.detach())


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """The value exactly, to the last bit, with the gradient that the surrogate has."""
    if torch.compiler.is_compiling():  # which takes no function that has forward derivatives
        return value + (surrogate - surrogate.detach())
    if mapped(surrogate):
        both: Tensor = at_once(with_gradient_of, value, surrogate)
        return both
    replaced: Tensor = _Replace.apply(value, surrogate)  # type: ignore[no-untyped-call]
    return replaced


class _Replace(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient

    @staticmethod
    def jvp(ctx: Any, value: Tensor | None, surrogate: Tensor) -> Tensor:
        return surrogate.clone()


def _scores(logits: Tensor, seed: Tensor) -> Tensor:
    noise = exponential(seed, logits.shape[seed.dim() :].numel())
    return logits.contiguous() - noise.log().to(logits.dtype).reshape(logits.shape)


def largest(scores: Tensor) -> Tensor:
    """One-hot vectors of the largest scores; NaN where a score is not a number, or every class impossible."""
    hard = torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0) if scores.numel() else scores
    most = scores.amax(-1, keepdim=True) if scores.numel() else scores
    return hard + (most - most)


# ---- gradients -----------------------------------------------------------------------------------------------------


def _backward_reference(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Tensor:
    centre = soft.new_zeros(()) if a is None else (soft * a).sum(-1, keepdim=True)
    centre = centre if b is None else centre + b.sum(-1, keepdim=True)
    out = soft * (-centre if a is None else a - centre)
    return ((out if b is None else out + b) / column(temperature)).to(soft.dtype).contiguous()


def _in_temperature(gradient: Tensor, soft: Tensor, log: Tensor | None, temperature: Tensor) -> Tensor:
    """As the gradient in the logits sums to zero, only the logarithms of z are needed, and no noise."""
    log = soft.masked_fill(soft == 0, 1.0).log() if log is None else log.masked_fill(log.isinf(), 0.0)
    return -(gradient * log).sum(-1).sum_to_size(temperature.shape)


def relaxed_sample_backward(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: float | Tensor) -> Tensor:
    """The gradient in the logits; see the module's docstring."""
    if not torch.is_grad_enabled() and route(soft, a, b) == "direct":
        return _backward(soft, a, b, temperature)
    t = temperature if isinstance(temperature, Tensor) else soft.new_full((), temperature)
    return torch.ops.softhot.relaxed_sample_backward(soft, a, b, t)


class _Direct(torch.autograd.Function):
    """The kernel without the dispatcher, whose overhead is several times the work of a small sample."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float | Tensor, seed: Tensor, also: Also) -> Any:
        soft, other = _draw(logits, temperature, seed, also)
        ctx.call = temperature, also
        if not also:
            ctx.save_for_backward(soft)
            return soft
        ctx.set_materialize_grads(False)
        # nobody sees the softmax beside a one-hot vector, but as an output it has the graph for second derivatives
        ctx.save_for_backward(soft, other if also == "log" else None)
        return soft, other

    @staticmethod
    def backward(ctx: Any, a: Tensor | None, b: Tensor | None = None) -> Any:
        temperature, also = ctx.call
        if not also and type(temperature) is float:
            (soft,) = ctx.saved_tensors
            return relaxed_sample_backward(soft, a, None, temperature), None, None, None
        soft, *rest = ctx.saved_tensors
        if also in ("hard", "straight"):
            a, b = (b if a is None else a if b is None else a + b), None
        gradient = relaxed_sample_backward(soft, a, b, temperature)
        learned = ctx.needs_input_grad[1] and also != "straight"
        log = rest[0] if also == "log" else None
        return gradient, _in_temperature(gradient, soft, log, temperature) if learned else None, None, None


_direct = direct(_Direct)


# ---- operators -----------------------------------------------------------------------------------------------------


@operator("softhot::relaxed_sample", "(Tensor logits, Tensor temperature, Tensor seed, str also) -> (Tensor, Tensor)")
def _sample_op(logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    return sample_reference(logits, temperature, seed, also)


@operator("softhot::relaxed_sample_backward", "(Tensor soft, Tensor? a, Tensor? b, Tensor temperature) -> Tensor")
def _backward_op(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Tensor:
    return _backward_reference(soft, a, b, temperature)


@operator("softhot::one_hot_sample", "(Tensor logits, Tensor seed) -> Tensor")
def _choose_op(logits: Tensor, seed: Tensor) -> Tensor:
    return largest(_scores(logits, seed))


@_sample_op.register_fake
def _(logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    soft = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return soft, torch.empty_like(soft) if also else logits.new_empty(0)


@_backward_op.register_fake
def _(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Tensor:
    return torch.empty_like(soft, memory_format=torch.contiguous_format)


@_choose_op.register_fake
def _(logits: Tensor, seed: Tensor) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


@_sample_op.register_kernel("cpu")
def _(logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    soft, other = _draw(logits, temperature, seed, also)
    return soft, logits.new_empty(0) if other is None else other


def _draw(logits: Tensor, temperature: float | Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor | None]:
    cpu = compiled("sampler_cpu")
    if cpu is None:
        return sample_reference(logits.detach(), temperature, seed, also)
    logits = logits.contiguous()
    soft = torch.empty_like(logits)
    other = torch.empty_like(logits) if also else None
    hard, log = (None, other) if also == "log" else (other, None)
    rate, rates = _rates(temperature, logits)
    count, plain = seed.numel(), int(also == "straight")
    seed, body = seed.contiguous(), cpu.sample_body(logits.dtype)
    run(body, logits.shape, rate, count, plain, seed, logits, rates, soft, hard, log)
    return soft, other


@_choose_op.register_kernel("cpu")
def _choose(logits: Tensor, seed: Tensor) -> Tensor:
    cpu = compiled("sampler_cpu")
    if cpu is None:
        return largest(_scores(logits.detach(), seed))
    hard = torch.empty_like(logits, memory_format=torch.contiguous_format)
    given = seed.numel(), 0, seed.contiguous(), logits.contiguous()
    run(cpu.sample_body(logits.dtype), logits.shape, 1.0, *given, None, None, hard, None)
    return hard


@_backward_op.register_kernel("cpu")
def _backward(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: float | Tensor) -> Tensor:
    cpu = compiled("sampler_cpu")
    if cpu is None:
        t = temperature if isinstance(temperature, Tensor) else soft.new_full((), temperature)
        return _backward_reference(soft, a, b, t)
    soft = soft.contiguous()
    a, b = a if a is None else a.contiguous(), b if b is None else b.contiguous()
    out = torch.empty_like(soft)
    rate, rates = _rates(temperature, soft)
    run(cpu.backward_body(soft.dtype), soft.shape, rate, soft, a, b, rates, out)
    return out


def _rates(temperature: float | Tensor, logits: Tensor) -> tuple[float, Tensor | None]:
    """One over the temperature: one number for all rows, or one for each."""
    if type(temperature) is float:
        return 1 / temperature, None
    number, each = by_row(temperature, logits)
    return (1 / number, None) if each is None else (0.0, each.reciprocal())


@_sample_op.register_kernel("cuda")
def _draw_gpu(logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> tuple[Tensor, Tensor]:
    gpu = _gpu()
    if gpu is None:
        return sample_reference(logits.detach(), temperature, seed, also)
    return gpu.sample(logits, temperature, seed, also)


@_choose_op.register_kernel("cuda")
def _choose_gpu(logits: Tensor, seed: Tensor) -> Tensor:
    gpu = _gpu()
    return largest(_scores(logits.detach(), seed)) if gpu is None else gpu.choose(logits, seed)


@_backward_op.register_kernel("cuda")
def _backward_gpu(soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Tensor:
    gpu = _gpu()
    return (_backward_reference if gpu is None else gpu.backward)(soft, a, b, temperature)


def _gpu() -> Any:
    """The kernels for GPUs, if Triton is there and works."""
    gpu = compiled("sampler_triton")
    return gpu if gpu is not None and gpu.works() else None


def _sample_context(ctx: Any, inputs: Any, output: Any) -> None:
    _, temperature, _, ctx.also = inputs
    soft, other = output
    ctx.save_for_backward(soft, other if ctx.also == "log" else None, temperature)


def _sample_gradient(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    soft, log, temperature = ctx.saved_tensors
    if ctx.also in ("hard", "straight"):
        a = a + b
    gradient = relaxed_sample_backward(soft, a, b if ctx.also == "log" else None, temperature)
    learned = ctx.needs_input_grad[1] and ctx.also != "straight"
    return gradient, _in_temperature(gradient, soft, log, temperature) if learned else None, None, None


def _backward_context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, output)


def _backward_gradient(ctx: Any, h: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """The derivatives of (z (a - c) + b) / t."""
    soft, a, b, temperature, out = ctx.saved_tensors
    rated = h / column(temperature)
    mean = (rated * soft).sum(-1, keepdim=True)
    centre = (0 if a is None else (soft * a).sum(-1, keepdim=True)) + (0 if b is None else b.sum(-1, keepdim=True))
    in_soft = -rated * centre if a is None else rated * (a - centre) - a * mean
    in_temperature = -((h * out).sum(-1) / temperature).sum_to_size(temperature.shape)
    return in_soft, None if a is None else soft * (rated - mean), None if b is None else rated - mean, in_temperature


_sample_op.register_autograd(_sample_gradient, setup_context=_sample_context)
_backward_op.register_autograd(_backward_gradient, setup_context=_backward_context)


@_sample_op.register_vmap
def _(info: Any, dims: Any, logits: Tensor, temperature: Tensor, seed: Tensor, also: str) -> Any:
    batched = front(info, dims[0], logits), beside(dims[1], temperature, logits, dims[0]), front(info, dims[2], seed)
    return _sample_op(*batched, also), (0, 0 if also else None)


@_choose_op.register_vmap
def _(info: Any, dims: Any, logits: Tensor, seed: Tensor) -> Any:
    return _choose_op(front(info, dims[0], logits), front(info, dims[1], seed)), 0


@_backward_op.register_vmap
def _(info: Any, dims: Any, soft: Tensor, a: Tensor | None, b: Tensor | None, temperature: Tensor) -> Any:
    parts = [None if x is None else front(info, d, x) for x, d in zip((soft, a, b), dims, strict=False)]
    return _backward_op(*parts, beside(dims[3], temperature, soft, dims[0])), 0

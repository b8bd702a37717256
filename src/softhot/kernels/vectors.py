"""Instructions on eight numbers at once, written as arithmetic.

A compiler that does not know how short a loop is, such as one over the classes of a row, vectorises it badly. Here
vectors are explicit: a `Value` is a number or a vector of eight in code emitted for Numba, by functions that
`numba.extending.intrinsic` makes callable. Memory is addressed by integers, and LLVM makes of eight lanes what the
processor has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["F32", "F64", "I32", "I64", "LANES", "Code", "Value", "emitted", "exponential", "largest_each", "sum_each"]

LANES = 8
F32, F64, I32, I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_FLOATS = (F32, F64)
_SIZE = {F32: 4, F64: 8, I32: 4, I64: 8}
_KINDS = {"i": types.int64, "d": types.float64}
# lanes of two vectors to be combined: after three times, eight vectors have become one, of a number for each
_NEAR = ((0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15))
_FAR = ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15))
_COMBINED = (_NEAR, _NEAR, _FAR)


class Value:
    """A number or a vector of eight in a register."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.ir = builder, value
        self.vector = isinstance(value.type, ir.VectorType)
        self.kind = value.type.element if self.vector else value.type
        self.real = self.kind in _FLOATS

    def _with(self, value: Any) -> Value:
        return Value(self.builder, value)

    def like(self, x: Any) -> Value:
        """A number as a value of this type."""
        if isinstance(x, Value):
            return x
        x = float(x) if self.real else int(x)
        return self._with(ir.Constant(self.ir.type, [x] * LANES if self.vector else x))

    def _both(self, name: str, other: Any) -> Value:
        other = self.like(other)
        if self.real:
            return self._with(getattr(self.builder, "f" + name)(self.ir, other.ir, flags=["contract"]))
        return self._with(getattr(self.builder, name)(self.ir, other.ir))

    def __add__(self, other: Any) -> Value:
        return self._both("add", other)

    def __sub__(self, other: Any) -> Value:
        return self._both("sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._both("mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._both("div", other)

    def __and__(self, other: Any) -> Value:
        return self._with(self.builder.and_(self.ir, self.like(other).ir))

    def __or__(self, other: Any) -> Value:
        return self._with(self.builder.or_(self.ir, self.like(other).ir))

    def __xor__(self, other: Any) -> Value:
        return self._with(self.builder.xor(self.ir, self.like(other).ir))

    def __neg__(self) -> Value:
        return self * -1

    def __lshift__(self, other: Any) -> Value:
        return self._with(self.builder.shl(self.ir, self.like(other).ir))

    def __rshift__(self, other: Any) -> Value:
        return self._with(self.builder.ashr(self.ir, self.like(other).ir))

    def compare(self, sign: str, other: Any) -> Value:
        """A mask: whether self <sign> other; false for NaN except with !=."""
        compare = self.builder.icmp_signed
        if self.real:
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return self._with(compare(sign, self.ir, self.like(other).ir))

    def choose(self, yes: Value, no: Any) -> Value:
        """Of a mask: yes where it is set, otherwise no."""
        return self._with(self.builder.select(self.ir, yes.ir, yes.like(no).ir))

    def most(self, other: Value) -> Value:
        """The larger of the two; the other where one is NaN."""
        return self.compare(">", other).choose(self, other)

    def to(self, kind: Any) -> Value:
        """Converted; reals become integers towards zero."""
        if kind == self.kind:
            return self
        target = ir.VectorType(kind, LANES) if self.vector else kind
        if self.real and kind in _FLOATS:
            convert = self.builder.fpext if kind == F64 else self.builder.fptrunc
        elif self.real:
            convert = self.builder.fptosi
        elif kind in _FLOATS:
            convert = self.builder.uitofp if self.kind.width == 1 else self.builder.sitofp
        else:
            convert = self.builder.sext if kind.width > self.kind.width else self.builder.trunc
        return self._with(convert(self.ir, target))

    def bits(self, kind: Any) -> Value:
        """The same bits, as another kind of number."""
        return self._with(self.builder.bitcast(self.ir, ir.VectorType(kind, LANES) if self.vector else kind))

    def shuffle(self, other: Value, order: Sequence[int]) -> Value:
        """Lanes of the two, those of the second counted from eight."""
        return self._with(self.builder.shuffle_vector(self.ir, other.ir, ir.Constant(ir.VectorType(I32, LANES), order)))

    def halved(self, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into one."""
        vector, half = self, LANES // 2
        while half:
            vector = combine(vector, vector.shuffle(vector, [(lane + half) % LANES for lane in range(LANES)]))
            half //= 2
        return vector.lane(0)

    def everywhere(self, lane: int) -> Value:
        """A lane in all lanes."""
        return self.shuffle(self, [lane] * LANES)

    def lane(self, i: int) -> Value:
        return self._with(self.builder.extract_element(self.ir, ir.Constant(I32, i)))

    def sum(self) -> Value:
        return self.halved(lambda a, b: a + b)


class Code:
    """What emits: memory, loops and cases."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def value(self, x: Any) -> Value:
        return Value(self.builder, x)

    def integer(self, x: int) -> Value:
        return self.value(ir.Constant(I64, x))

    def constant(self, kind: Any, x: float | Sequence[float]) -> Value:
        lanes = list(x) if isinstance(x, Sequence) else [x] * LANES
        return self.value(ir.Constant(ir.VectorType(kind, LANES), lanes))

    def splat(self, x: Value) -> Value:
        """A number in all lanes."""
        empty = ir.Constant(ir.VectorType(x.kind, LANES), ir.Undefined)
        first = self.value(self.builder.insert_element(empty, x.ir, ir.Constant(I32, 0)))
        return first.everywhere(0)

    def _place(self, address: Value, index: Value, kind: Any, vector: bool) -> Any:
        place = address + index * _SIZE[kind]
        return self.builder.inttoptr(place.ir, (ir.VectorType(kind, LANES) if vector else kind).as_pointer())

    def load(self, kind: Any, address: Value, index: Value, vector: bool = True) -> Value:
        """From the element of that index on."""
        return self.value(self.builder.load(self._place(address, index, kind, vector), align=_SIZE[kind]))

    def store(self, x: Value, address: Value, index: Value) -> None:
        self.builder.store(x.ir, self._place(address, index, x.kind, x.vector), align=_SIZE[x.kind])

    def gather(self, kind: Any, address: Value, places: Sequence[Value]) -> Value:
        """The elements of these indices."""
        vector = self.value(ir.Constant(ir.VectorType(kind, LANES), ir.Undefined))
        for lane, place in enumerate(places):
            here = self.load(kind, address, place, vector=False)
            vector = self.value(self.builder.insert_element(vector.ir, here.ir, ir.Constant(I32, lane)))
        return vector

    def scatter(self, x: Value, address: Value, places: Sequence[Value]) -> None:
        """Store the lanes at these indices."""
        for lane, place in enumerate(places):
            self.store(x.lane(lane), address, place)

    def load_part(self, kind: Any, address: Value, index: Value, count: Value, fill: float, room: Value) -> Value:
        """As load, of `count` elements, and `fill` in place of those beyond; memory has `room` elements."""
        lanes = self.constant(I64, list(range(LANES)))
        inside = lanes.compare("<", self.splat(count - index))
        result = self.variable(self.constant(kind, fill))
        with self.builder.if_else((room - index).compare(">=", LANES).ir) as (whole, part):
            with whole:
                result.set(inside.choose(self.load(kind, address, index), fill))
            with part, self.loop(index, count, 1) as each:
                here = self.load(kind, address, each, vector=False)
                result.set(self.value(self.builder.insert_element(result.get().ir, here.ir, (each - index).ir)))
        return result.get()

    def store_part(self, x: Value, address: Value, index: Value, count: Value) -> None:
        """As store, into an array of `count` elements."""
        left = count - index
        with self.builder.if_else(left.compare(">=", LANES).ir) as (whole, part):
            with whole:
                self.store(x, address, index)
            with part, self.loop(self.integer(0), left, 1) as lane:
                here = self.value(self.builder.extract_element(x.ir, lane.ir))
                self.store(here, address, index + lane)

    def variable(self, x: Value) -> Variable:
        return Variable(self, x)

    @contextmanager
    def loop(self, start: Value, stop: Value, step: int) -> Iterator[Value]:
        with cgutils.for_range_slice(self.builder, start.ir, stop.ir, ir.Constant(I64, step), I64) as (index, _):
            yield self.value(index)

    def either(self, mask: Value, yes: Callable[[], None], no: Callable[[], None]) -> None:
        with self.builder.if_else(mask.ir) as (then, otherwise):
            with then:
                yes()
            with otherwise:
                no()

    def one_or_all(self, lanes: Value, body: Callable[[int], None]) -> None:
        """body(1) or body(LANES), whichever there are."""
        self.either(lanes.compare("==", 1), lambda: body(1), lambda: body(LANES))

    def cases(self, x: Value, most: int, body: Callable[[int], None]) -> None:
        """body(x) for x from one to `most`, each with code of its own."""
        end = self.builder.append_basic_block("end")
        switch = self.builder.switch(x.ir, end)
        for case in range(1, most + 1):
            block = self.builder.append_basic_block(f"case{case}")
            switch.add_case(ir.Constant(I64, case), block)
            self.builder.position_at_end(block)
            body(case)
            self.builder.branch(end)
        self.builder.position_at_end(end)

    def least(self, a: Value, b: Value) -> Value:
        return a.compare("<", b).choose(a, b)

    def divide(self, x: Value, by: int) -> Value:
        """x / by for a positive x, without the rest."""
        return self.value(self.builder.udiv(x.ir, ir.Constant(x.ir.type, by)))


class Variable:
    """A value that changes in a loop."""

    def __init__(self, code: Code, x: Value) -> None:
        self.code = code
        self.place = cgutils.alloca_once_value(code.builder, x.ir)

    def get(self) -> Value:
        return self.code.value(self.code.builder.load(self.place))

    def set(self, x: Value) -> None:
        self.code.builder.store(x.ir, self.place)

    def add(self, x: Value) -> None:
        self.set(self.get() + x)


_EXP = {F32: (127, 7, 23, I32), F64: (1023, 13, 52, I64)}  # bias, terms, bits of the fraction
_LOG2 = (0.6931471803691238, 1.9082149292705877e-10)  # its leading bits, and the rest


def exponential(x: Value) -> Value:
    """exp(x) for x <= 0; zero where it would be subnormal."""
    bias, terms, fraction, whole = _EXP[x.kind]
    turns = x * 1.4426950408889634
    turns = turns.compare(">", -bias).choose(turns, -bias)
    power = (turns - 0.5).to(whole)
    n = power.to(x.kind)
    f = x - n * _LOG2[0] - n * _LOG2[1] if x.kind == F64 else (turns - n) * sum(_LOG2)
    factor, series = 1.0, [1.0]
    for term in range(1, terms + 1):
        factor /= term
        series.append(factor)
    p = x.like(series.pop())
    while series:
        p = p * f + series.pop()
    return p * ((power + bias) << fraction).bits(x.kind)


def sum_each(vectors: Sequence[Value]) -> Value:
    """Of eight vectors, the sum of the lanes of each."""
    return _each(vectors, Value.__add__)


def largest_each(vectors: Sequence[Value]) -> Value:
    """Of eight vectors, the largest lane of each."""
    return _each(vectors, Value.most)


def _each(vectors: Sequence[Value], combine: Callable[[Value, Value], Value]) -> Value:
    for one, two in _COMBINED:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [combine(a.shuffle(b, one), a.shuffle(b, two)) for a, b in pairs]
    return vectors[0]


def emitted(arguments: str, results: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function that emits: of the code, the table's kind, and the values of the arguments."""
    result: Any = types.void if not results else types.Tuple([_KINDS[x] for x in results])

    def decorate(function: Callable[..., Any]) -> Any:
        def typed(typing_context: Any, zero: Any, *_: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                code = Code(context, builder)
                found = function(code, context.get_value_type(zero), *map(code.value, values[1:]))
                return cgutils.pack_struct(builder, [x.ir for x in found]) if results else context.get_dummy_value()

            return result(zero, *(_KINDS[x] for x in arguments)), generate

        names = ["typing_context", "zero", *list(inspect.signature(function).parameters)[2:]]
        each = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__name__ = typed.__qualname__ = function.__name__
        typed.__signature__ = inspect.Signature(each)  # type: ignore[attr-defined]
        return intrinsic(typed)

    return decorate

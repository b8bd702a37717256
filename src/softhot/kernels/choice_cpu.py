r"""Discrete choices on the CPU, compiled by Numba.

With :math:`S_n = \sum_k A(x_n - m_k)` at node n and :math:`\Pi_n = e^{-S_n}`, the expected maximum is the end of the
nodes less the sum of the :math:`\Pi_n`, and the probability of class k the sum of :math:`\Pi_n D(x_n - m_k)`, sums that
are times the step. On the left of a row's nodes :math:`\Pi` has vanished, and on their right it is one but for what
`choice_tables` says is left.

The derivative of the probabilities along a gradient g needs no table of D', since they always sum to one:

.. math:: \sum_k g_k \frac{\partial p_k}{\partial m_j} = \int \Pi D_j \sum_k (g_j - g_k) D_k

Rows come in groups that are worked on together: eight of few classes, or one of many. A thread needs the memory of the
nodes and of one group, whatever the number of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from softhot.kernels.choice_tables import LAST, STRIDE
from softhot.kernels.compiled import FAST, SUMS, array, bits, body, job, next_piece, of_rows
from softhot.kernels.mesh import clear, read, scatter, survey
from softhot.kernels.nodes import collect, spread, weigh
from softhot.kernels.parallel import HEADER
from softhot.kernels.vectors import LANES

__all__ = ["expected_backward_body", "expected_body", "probabilities_backward_body"]

_i32, _i64, _u64, _f32, _f64 = np.int32, np.int64, np.uint64, np.float32, np.float64
_SHORT = 128  # classes of rows that come in eights, at most
_BLOCK = 1024  # classes of a long row whose weights are added up in the table's kind
_TOP, _TOTAL, _POSSIBLE, _UNLIKE, _ONE, _TWO, _FOUR, _WEIGHT = (LANES * i for i in range(8))  # numbers of a survey


class _Table(NamedTuple):
    """What `choice_tables.Tables` holds for one scale; tables and lists by address."""

    step: float
    start: float
    shift: int
    length: int
    nodes: int
    limit: float
    room: int
    rate: float
    decay: float
    rest: int
    windows: int
    exponent: int
    hazard: int
    across: int


class _Memory(NamedTuple):
    """What a thread works in: the size of a number, the width of a mesh, and addresses.

    First what a survey leaves of a group, and what is lost; then its mesh and its nodes, with as much for a second sum
    over them, and for both of another table; last the weights of the classes of short rows.
    """

    item: int
    width: int
    numbers: int
    begins: int
    counts: int
    lost: int
    wide: int
    points: int
    within: int
    totals: int
    mesh: int
    gained_mesh: int
    sums: int
    others: int
    drifts: int
    others_drifts: int
    factors: int
    gained: int
    weights: int


class _Group(NamedTuple):
    """Rows of as many classes; on how many lanes; the last point of their mesh; the first node, and how many count.

    A long row is alone on one lane. Short ones are on eight: those to spare do as the last row does. Nodes come in
    eights.
    """

    rows: int
    lanes: int
    classes: int
    last: int
    first: int
    nodes: int


# ---- steps of a group ----------------------------------------------------------------------------------------------


@njit(**SUMS)
def _survey(zero, memory, table, locations, other, ratio, classes, rows, available):
    """Leaves in memory numbers of each row, which nodes are its own, and where its classes are on the mesh.

    There are no nodes where there is nothing to integrate. What is found for a row does not depend on the others.
    """
    numbers, unit = array(memory.numbers, LANES * LANES, 0.0), _f64(_i64(1) << table.shift) / table.step
    wide, points, within, to = memory.wide, memory.points, memory.within, memory.numbers
    rate, decay, limit = table.rate, table.decay, table.limit
    short, lanes = classes <= _SHORT, LANES if classes <= _SHORT else 1
    (last,) = survey(
        zero,
        locations,
        other,
        ratio,
        rate,
        unit,
        decay,
        limit,
        classes,
        rows if short else 0,
        available,
        wide,
        points,
        within,
        to,
    )
    size, begins, counts = 2 * table.room + 2, array(memory.begins, LANES, 0), array(memory.counts, LANES, 0)
    windows, first, end = array(table.windows, 1 + 4 * size, 0), table.nodes, 0
    for r in range(lanes):
        begins[r] = counts[r] = 0
        if _integrable(numbers, r):
            begin = max(
                windows[0],
                windows[1 + _twice(numbers[_ONE + r])],
                windows[1 + size + _twice(numbers[_TWO + r])],
                windows[1 + 2 * size + _twice(numbers[_FOUR + r])],
            )
            weight = 1.07 * numbers[_WEIGHT + r]  # a line misses a logarithm by .086 at most
            count = windows[1 + 3 * size + min(_twice(weight) + 1, size - 1)] - begin
            counts[r] = (count + LANES - 1) // LANES * LANES
            begins[r] = min(begin, table.nodes - counts[r])
            first, end = min(first, begins[r]), max(end, begins[r] + counts[r])
    nodes = max(0, end - first + LANES - 1) // LANES * LANES
    first = min(first, table.nodes - nodes)
    for r in range(lanes):
        begins[r] = max(begins[r] - first, 0)
        counts[r] = max(counts[r], LANES)
    return _Group(rows, lanes, classes, last, first, nodes)


@njit(**SUMS)
def _integrable(numbers, r):
    """Whether a row has an expected maximum: the same classes are possible, and they are somewhere."""
    return not (numbers[_UNLIKE + r] > 0) and -np.inf < numbers[_TOP + r] < np.inf


@njit(**SUMS)
def _twice(x):
    """Twice the binary logarithm of x >= 1, by lines between powers of two, rounded down."""
    return (_i64(bits(_f32(x))) - (127 << 23)) >> 22


@njit(**SUMS)
def _scatter(zero, memory, group, gains):
    """The weights of the classes on the mesh of each row; with gains, also gain times them."""
    rows, classes, end, width = group.rows, group.classes, group.last + LANES, memory.width
    points, within, mesh, gained = memory.points, memory.within, memory.mesh, memory.gained_mesh
    clear(zero, mesh, width, end)
    if gains:
        clear(zero, gained, width, end)
    if group.lanes > 1:
        scatter(zero, points, within, LANES, classes, rows, width, mesh, gains, classes, 1, gained, memory.weights)
        return
    totals = array(memory.totals, 2 * width, 0.0)
    totals[:] = 0.0
    for start in range(0, classes, _BLOCK):
        size = min(_BLOCK, classes - start)
        for turns, k in ((LANES, start), (1, start + size // LANES * LANES)):
            count = size // LANES if turns > 1 else size % LANES
            here, places = points + 4 * k, within + memory.item * k
            some = gains + memory.item * k if gains else 0
            scatter(zero, here, places, turns, count, turns, width, mesh, some, 1, turns, gained, 0)
        _add_up(zero, mesh, width, end, totals)
        if gains:
            _add_up(zero, gained, width, end, totals[width:])
    _settle(zero, mesh, end, totals)
    if gains:
        _settle(zero, gained, end, totals[width:])


@njit(**SUMS)
def _add_up(zero, mesh, width, end, totals):
    """Move what is on the copies of a mesh to the totals."""
    copies = array(mesh, LANES * width, zero)
    for c in range(LANES):
        for i in range(end):
            totals[i] += _f64(copies[c * width + i])
            copies[c * width + i] = zero


@njit(**SUMS)
def _settle(zero, mesh, end, totals):
    """Move the totals to the first copy."""
    kind, points = type(zero), array(mesh, end, zero)
    for i in range(end):
        points[i] = kind(totals[i])


@njit(**SUMS)
def _sum(zero, memory, table, group, values, mesh, sums):
    """The sums at the nodes of what is on the mesh, times a table."""
    end, lanes, nodes, first = group.last + LANES, group.lanes, group.nodes, group.first
    spread(zero, values, table.shift, table.length, mesh, memory.width, end, lanes, nodes, first, sums)


@njit(**SUMS)
def _weigh(zero, memory, table, group, order):
    """The factors of the nodes, and what of the integral is lost; see `weigh`."""
    lanes, nodes, step = group.lanes, group.nodes, table.step
    begins, counts, lost = memory.begins, memory.counts, memory.lost
    weigh(zero, memory.sums, lanes, nodes, begins, counts, table.rest, step, order, memory.factors, lost)


@njit(**SUMS)
def _get(zero, memory, table, group, gains, results):
    """What each class gets from the nodes: the sum of their factors times the hazard. With gains, less that sum than
    gain times that of what is gained.
    """
    points, within, mesh, gained = memory.points, memory.within, memory.mesh, memory.gained_mesh
    classes, rows, width = group.classes, group.rows, memory.width
    _collect(zero, memory, table, group, memory.factors, mesh)
    if gains:
        _collect(zero, memory, table, group, memory.gained, gained)
    if group.lanes > 1:
        read(zero, points, within, classes, rows, width, mesh, gains, gained, classes, 1, memory.weights, results)
    else:
        read(
            zero, points, within, (classes + LANES - 1) // LANES, classes, 0, mesh, gains, gained, 1, LANES, 0, results
        )


@njit(**SUMS)
def _collect(zero, memory, table, group, factors, mesh):
    """The sums at the points of factors of the nodes, times the hazard."""
    nodes, first, lanes, vectors = group.nodes, group.first, group.lanes, (group.last + LANES - 1) // LANES
    collect(zero, table.across, table.shift, factors, nodes, first, lanes, vectors, memory.width, mesh)


@njit(**SUMS)
def _expected(zero, memory, table, group, locations, probabilities, drift, results, first, stride):
    """Fill the results of each row, from the first on, a stride apart, and return whether a class is impossible.

    The expected maximum; the contrast; sum and count of the locations; the derivative in the scale, locations fixed, of
    what of the first is beyond the largest location, in units of the wider noise; the mean of the locations, and of m,
    and the sum of m.
    """
    kind, classes, numbers = type(zero), group.classes, array(memory.numbers, LANES * LANES, 0.0)
    wider, beyond = _f64(_i64(1) << table.shift) / (table.step * table.rate), 0.0
    if group.nodes:
        _scatter(zero, memory, group, 0)
        _sum(zero, memory, table, group, table.exponent, memory.mesh, memory.sums)
        _weigh(zero, memory, table, group, 1.0)
        beyond = table.start + table.step * (_f64(group.first) - 0.5)
        if probabilities:
            if drift:
                _sum(zero, memory, table, group, drift, memory.mesh, memory.sums)
            _get(zero, memory, table, group, 0, probabilities)
    begins, counts, lost = (
        array(memory.begins, LANES, 0),
        array(memory.counts, LANES, 0),
        array(memory.lost, LANES, 0.0),
    )
    for r in range(group.rows):
        here = first + r
        top, nodes = numbers[_TOP + r], _f64(begins[r] + counts[r])
        results[here] = top + wider * (beyond + table.step * (nodes - lost[r]))
        results[2 * stride + here], results[3 * stride + here] = numbers[_TOTAL + r], numbers[_POSSIBLE + r]
        for j in range(4, STRIDE if drift else 4):
            results[j * stride + here] = 0.0
    for r in range(group.rows):
        here = first + r
        if _integrable(numbers, r):
            if probabilities and (drift or numbers[_POSSIBLE + r] == 1.0):
                _slopes(zero, memory, group, r, locations, probabilities, drift, results, here, stride)
            continue
        results[here], chance = numbers[_TOP + r], np.nan
        if numbers[_UNLIKE + r] > 0:
            results[here], results[3 * stride + here] = np.inf, max(numbers[_POSSIBLE + r], 1.0)
            chance = 1.0 / results[3 * stride + here]
        if probabilities:
            array(probabilities + memory.item * r * classes, classes, zero)[:] = kind(chance)
    lacking = False
    for here in range(first, first + group.rows):
        results[stride + here] = results[3 * stride + here] * results[here] - results[2 * stride + here]
        lacking = lacking or results[3 * stride + here] != classes
    return lacking


@njit(**SUMS)
def _slopes(zero, memory, group, r, locations, probabilities, drift, results, here, stride):
    """The last results of a row, and its chances where only one class is possible."""
    kind, classes, nodes = type(zero), group.classes, group.nodes
    step, at = (LANES, r) if group.lanes > 1 else (1, 0)
    b = array(memory.wide, classes * step, 0.0)
    p = array(probabilities + memory.item * r * classes, classes, zero)
    if results[3 * stride + here] == 1.0:
        for k in range(classes):
            p[k] = kind(1.0) if b[k * step + at] > -np.inf else kind(0.0)
    if drift:
        others = array(memory.sums + memory.item * nodes * r, nodes, zero)
        factors = array(memory.factors + memory.item * nodes * r, nodes, zero)
        m = array(locations + memory.item * r * classes, classes, zero)
        slope = mean = own = total = 0.0
        for n in range(nodes):
            slope += _f64(others[n]) * _f64(factors[n])
        for k in range(classes):
            if b[k * step + at] > -np.inf:
                mean += _f64(p[k]) * b[k * step + at]
                own += _f64(p[k]) * _f64(m[k])
            if m[k] > kind(-np.inf):
                total += _f64(m[k])
        results[4 * stride + here], results[5 * stride + here] = slope, mean
        results[6 * stride + here], results[7 * stride + here] = own, total


@njit(**SUMS)
def _probabilities_backward(zero, memory, table, group, gradient, drift, out, in_scale):
    """Fill the derivatives in the locations, and those in the scale for fixed locations, if there is room for them."""
    kind, classes, numbers = type(zero), group.classes, array(memory.numbers, LANES * LANES, 0.0)
    if group.nodes:
        _scatter(zero, memory, group, gradient)
        _sum(zero, memory, table, group, table.exponent, memory.mesh, memory.sums)
        _weigh(zero, memory, table, group, 2.0)
        _sum(zero, memory, table, group, table.hazard, memory.mesh, memory.sums)
        _sum(zero, memory, table, group, table.hazard, memory.gained_mesh, memory.others)
        if drift:
            _sum(zero, memory, table, group, drift, memory.mesh, memory.drifts)
            _sum(zero, memory, table, group, drift, memory.gained_mesh, memory.others_drifts)
        for r in range(group.lanes):
            slope = _turn(zero, memory, table, group, r, drift)
            if drift and r < group.rows:
                in_scale[r] = slope
        _get(zero, memory, table, group, gradient, out)
    for r in range(group.rows):
        if not _integrable(numbers, r):
            array(out + memory.item * r * classes, classes, zero)[:] = kind(np.nan)
            if drift:
                in_scale[r] = np.nan


@njit(**SUMS)
def _turn(zero, memory, table, group, r, drift):
    """Make of a row's sums the factors of its derivative in the locations, and return that in the scale."""
    kind, nodes, away, in_scale = type(zero), group.nodes, group.nodes * r, 0.0
    one = array(memory.sums + memory.item * away, nodes, zero)
    two = array(memory.others + memory.item * away, nodes, zero)
    factors = array(memory.factors + memory.item * away, nodes, zero)
    gained = array(memory.gained + memory.item * away, nodes, zero)
    if drift:
        three = array(memory.drifts + memory.item * away, nodes, zero)
        four = array(memory.others_drifts + memory.item * away, nodes, zero)
        for n in range(nodes):
            change = _f64(four[n]) * _f64(one[n]) - _f64(three[n]) * _f64(two[n])
            in_scale += _f64(factors[n]) * change
    scale = kind(table.rate * table.step / _f64(_i64(1) << table.shift))
    for n in range(nodes):
        gained[n] = factors[n] * (one[n] * scale)
        factors[n] *= two[n] * scale
    return in_scale


# ---- jobs ----------------------------------------------------------------------------------------------------------

_SHARED = 17  # arguments that both jobs begin with, see `_table`


@njit(**SUMS)
def _table(here, t):
    """One of the tables of a job, whose arguments begin with: bytes of a number, step, start, phases as a power of two,
    length of a phase, entries of a table, nodes, limit, room, number of tables; rates, decays, rest, windows, exponent,
    hazard, hazard across.
    """
    step, start, limit = bits(here[1]), bits(here[2]), bits(here[7])
    shift, length, nodes, move, room = here[3], here[4], here[6], here[0] * here[5] * t, here[8]
    rate, decay = array(here[10], t + 1, 0.0)[t], array(here[11], t + 1, 0.0)[t]
    rest, windows = here[12] + 8 * LAST * t, here[13] + 8 * (8 * room + 9) * t
    exponent, hazard, across = here[14] + move, here[15] + move, here[16] + move
    return _Table(step, start, shift, length, nodes, limit, room, rate, decay, rest, windows, exponent, hazard, across)


@njit(**SUMS)
def _room(here, classes):
    """The memory of a thread, and where its parts begin."""
    item, nodes, rows = here[0], here[6], LANES if classes <= _SHORT else 1
    width = (_i64(bits(here[7])) + 4 * LANES) // LANES * LANES
    each, meshes, at_nodes = rows * (classes + LANES), item * LANES * width, item * rows * nodes
    sizes = np.full(17, at_nodes)
    sizes[:10] = (
        8 * LANES * LANES,
        8 * LANES,
        8 * LANES,
        8 * LANES,
        8 * each,
        4 * each,
        item * each,
        16 * width,
        meshes,
        meshes,
    )
    sizes[16] = item * LANES * each if rows > 1 else 0
    places = np.zeros(sizes.size + 1, _i64)
    for i in range(sizes.size):
        places[i + 1] = places[i] + (sizes[i] + 63) // 64 * 64
    room = np.empty(places[-1] + 64, np.uint8)
    p = places + (room.ctypes.data + 63) // 64 * 64
    array(p[5], each, _i32(0))[:] = 0  # those of lanes without a class, too
    memory = _Memory(
        item,
        width,
        p[0],
        p[1],
        p[2],
        p[3],
        p[4],
        p[5],
        p[6],
        p[7],
        p[8],
        p[9],
        p[10],
        p[11],
        p[12],
        p[13],
        p[14],
        p[15],
        p[16],
    )
    return room, memory


@njit(**SUMS)
def _together(classes, r, last, rows, tables):
    """How many rows from r on make a group: no more than are left, and all of one table."""
    end = min(last, (r * tables // rows + 1) * rows // tables)
    return min(LANES if classes <= _SHORT else 1, end - r)


@njit(**SUMS)
def _expected_pieces(pointer, zero):
    """Further arguments: drift; locations, other, ratios; probabilities; results, and how far they are apart; what to
    set if a class is impossible.
    """
    work = job(pointer, _SHARED + 8)
    rows, classes, here = work[2], work[3], work[HEADER:]
    room, memory = _room(here, classes)
    tables, drift, item = here[9], here[17], here[0]
    ratios, stride = array(here[20], tables, 0.0), here[23]
    results = array(here[22], STRIDE * stride, 0.0)
    first, last = next_piece(pointer)
    while first < last:
        r = first
        while r < last:
            size, t, base = _together(classes, r, last, rows, tables), r * tables // rows, item * r * classes
            table = _table(here, t)
            locations = here[18] + base
            other = here[19] + base if here[19] else 0
            group = _survey(zero, memory, table, locations, other, ratios[t], classes, size, (rows - r) * classes)
            probabilities = here[21] + base if here[21] else 0
            drifts = drift + item * here[5] * t if drift else 0
            if _expected(zero, memory, table, group, locations, probabilities, drifts, results, r, stride):
                array(here[24], 1, _i64(0))[0] = 1
            r += size
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


@njit(**SUMS)
def _probabilities_backward_pieces(pointer, zero):
    """Further arguments: drift; locations and gradient; the derivatives in the locations and the scale."""
    work = job(pointer, _SHARED + 5)
    rows, classes, here = work[2], work[3], work[HEADER:]
    room, memory = _room(here, classes)
    tables, item, in_scales = here[9], here[0], array(here[21], rows, 0.0)
    first, last = next_piece(pointer)
    while first < last:
        r = first
        while r < last:
            size, t, base = _together(classes, r, last, rows, tables), r * tables // rows, item * r * classes
            table, drift = _table(here, t), here[17] + item * here[5] * t if here[17] else 0
            group = _survey(zero, memory, table, here[18] + base, 0, 0.0, classes, size, (rows - r) * classes)
            found = in_scales[r : r + size]
            _probabilities_backward(zero, memory, table, group, here[19] + base, drift, here[20] + base, found)
            r += size
        first, last = next_piece(pointer)
    room[0] = 0  # it lives until here


@njit(**FAST)
def _expected_backward_pieces(pointer, zero):
    """Arguments: a rate, of all rows or of each; the derivatives in each row's maximum and contrast, times that rate;
    how many classes are possible; probabilities; locations; the derivatives in them.

    Locations and numbers are needed where some are -inf, in which there is no derivative.
    """
    kind, work = type(zero), job(pointer, 8)
    rows, classes, here = work[2], work[3], work[HEADER:]
    rates = of_rows(here[0], here[1], rows, zero)
    values, contrasts = array(here[2], rows, zero), array(here[3], rows, zero)
    counts, chances = array(here[4], rows, 0.0), array(here[5], rows * classes, zero)
    locations, out = array(here[6], rows * classes, zero), array(here[7], rows * classes, zero)
    size = _u64(classes)
    first, last = next_piece(pointer)
    while first < last:
        for r in range(first, last):
            base, rate = _u64(r) * size, _f64(rates[r if rates.size > 1 else 0])
            above = rate * _f64(contrasts[r]) if contrasts.size else 0.0
            value = rate * _f64(values[r]) if values.size else 0.0
            value += above * (counts[r] if counts.size else _f64(classes))
            slope, less = kind(value), kind(above)
            for k in range(size):
                out[base + k] = slope * chances[base + k] - less
            if counts.size and counts[r] != classes:
                for k in range(size):
                    out[base + k] = kind(0.0) if locations[base + k] == kind(-np.inf) else out[base + k]
        first, last = next_piece(pointer)


expected_body = body(_expected_pieces)
"""The compiled expected maximum and choice probabilities of a dtype, for `parallel.run`."""


expected_backward_body = body(_expected_backward_pieces)
"""The derivatives in the locations, of those in the expected maximum and in the contrast."""


probabilities_backward_body = body(_probabilities_backward_pieces)
"""The derivative of the probabilities along a gradient."""

"""Shapes go together as torch says, whatever way a call goes; to tell it imports nothing."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from softhot.functional import categorical_kl, relaxed_mean
from softhot.kernels.routes import broadcast

dynamic = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 takes every size for a constant here")
SHAPES = [shape for dims in range(4) for shape in itertools.product((0, 1, 2, 3), repeat=dims)]


def test_shapes_broadcast_as_torch_says():
    for one, other in itertools.product(SHAPES, SHAPES):
        try:
            expected = torch.broadcast_shapes(one, other)
        except RuntimeError:
            expected = None
        assert broadcast(one, other) == expected, (one, other)


def together(logits, prior_logits, heat):
    """What takes batches of other shapes: of logits beside those of a prior, of temperatures beside those of logits."""
    return categorical_kl(logits, prior_logits), relaxed_mean(logits, heat)


def batches(rows):
    logits = torch.linspace(-1, 1, rows * 12).reshape(rows, 3, 4)
    return logits, torch.linspace(0, 2, 12).reshape(3, 4), torch.linspace(0.5, 2, rows).reshape(rows, 1)


class Together(torch.nn.Module):
    def forward(self, *given):
        return together(*given)


@dynamic
def test_rows_of_any_number_in_one_graph(unchecked):
    made = []

    def backend(graph, example):
        made.append(graph)
        return graph.forward

    compiled = torch.compile(together, fullgraph=True, backend=backend, dynamic=True)
    for rows in (5, 7, 9):
        assert_close(compiled(*batches(rows)), together(*batches(rows)))
    assert len(made) == 1


@dynamic
def test_rows_of_any_number_exported(unchecked):
    rows = torch.export.Dim("rows", min=2)
    dims = ({0: rows}, None, {0: rows})
    exported = torch.export.export(Together(), batches(5), dynamic_shapes={"given": dims}).module()
    assert_close(exported(*batches(7)), together(*batches(7)))


def test_mapped_rows():
    logits, prior_logits, heat = batches(5)
    mapped = torch.func.vmap(together, (0, None, 0))(logits, prior_logits, heat.expand(5, 3))
    assert_close(mapped, together(logits, prior_logits, heat))


def test_tensors_without_elements_of_their_own():
    with FakeTensorMode() as fake:
        shapes = [found.shape for found in together(*map(fake.from_tensor, batches(5)))]
    assert shapes == [found.shape for found in together(*batches(5))]


def test_shapes_that_do_not_go_together_are_refused(unchecked):
    logits, prior_logits, heat = batches(5)
    with pytest.raises(ValueError, match=r"temperature of shape \(5, 3\) .* to the batch shape \(1, 3\)"):
        relaxed_mean(logits[:1], heat.expand(5, 3))
    with pytest.raises(ValueError, match=r"\(5, 3, 4\) and .* of shape \(2, 4\) do not broadcast"):
        categorical_kl(logits, prior_logits[:2])


def test_nothing_is_imported_to_tell():
    code = """
import sys, torch
from softhot.functional import categorical_kl, gumbel_softmax
before = "sympy" in sys.modules  # torch 2.6 imports it itself
categorical_kl(torch.zeros(2, 3, 4), torch.zeros(3, 4)), gumbel_softmax(torch.zeros(2, 3), torch.ones(2))
print(before or "sympy" not in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"

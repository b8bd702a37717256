"""What a training loop needs around a categorical variable: mixed logits, a reduced divergence, the codes in use."""

import math

import pytest
import torch

from softhot.functional import categorical_kl, perplexity, reduce_kl, uniform_mix, usage


class TestUniformMix:
    @pytest.mark.parametrize("weight", [0.0, 0.01, 0.3, 1.0])
    def test_is_the_mixture_and_normalised(self, weight):
        logits = torch.randn(5, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
        mixed = uniform_mix(logits, weight)
        assert torch.allclose(mixed.exp(), (1 - weight) * logits.softmax(-1) + weight / 7, rtol=1e-12, atol=0)
        assert torch.allclose(mixed.logsumexp(-1), torch.zeros(5, 3, dtype=torch.float64), atol=1e-12)

    def test_of_extreme_logits_is_finite_and_so_is_its_gradient(self):
        logits = torch.tensor([0.0, -math.inf, -1e4, 80.0], requires_grad=True)
        mixed = uniform_mix(logits)
        assert mixed.isfinite().all()
        (gradient,) = torch.autograd.grad(mixed.sum(), logits)
        assert gradient.isfinite().all()
        assert gradient[1] == 0

    def test_gradient_is_that_of_the_formula(self):
        logits = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: uniform_mix(x, 0.1), logits)

    @pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
    def test_refuses_what_is_no_weight(self, weight):
        with pytest.raises(ValueError, match="weight="):
            uniform_mix(torch.zeros(2), weight)


class TestUsage:
    def test_counts_over_all_dimensions_of_the_batch(self):
        z = torch.nn.functional.one_hot(torch.tensor([[[0, 1], [0, 2]], [[0, 0], [1, 2]]]), 3).float()
        assert torch.equal(usage(z), torch.tensor([[0.75, 0.25, 0.0], [0.25, 0.25, 0.5]]))
        assert torch.equal(usage(z[0, 0]), z[0, 0])

    def test_perplexity_goes_from_one_to_the_number_of_classes(self):
        assert torch.allclose(perplexity(torch.eye(5)[[2, 2]][:, None]), torch.ones(1))
        assert torch.allclose(perplexity(torch.full((9, 2, 5), 0.2)), torch.full((2,), 5.0))
        assert torch.allclose(perplexity(torch.tensor([[[0.5, 0.5, 0.0]]])), torch.tensor([2.0]))

    def test_of_an_empty_batch_is_refused(self):
        with pytest.raises(ValueError, match="is empty"):
            perplexity(torch.ones(0, 2, 3))

    @pytest.mark.parametrize("row", [[0.0, 2.0], [-1.0, 2.0], [math.nan, 1.0]])
    def test_of_logits_is_refused_in_place_of_no_class_at_all(self, row):
        z = torch.tensor([[[0.5, 0.5], row]])
        with pytest.raises(ValueError, match=r"z has no probabilities: .* use logits.softmax\(-1\)"):
            perplexity(z)


class TestReduceKl:
    KL = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(2))

    def test_without_a_floor_is_the_sum_over_variables(self):
        assert torch.equal(reduce_kl(self.KL, "none"), self.KL.sum(-1))
        for floor in ("example", "variable"):
            assert torch.allclose(reduce_kl(self.KL, "mean", floor=floor), self.KL.sum(-1).mean())
            assert torch.allclose(reduce_kl(self.KL, "sum", floor=floor), self.KL.sum())

    def test_what_is_below_the_floor_costs_the_floor_and_has_no_gradient(self):
        logits = torch.tensor([[[0.1, 0.0]], [[9.0, 0.0]]], requires_grad=True)
        kl = categorical_kl(logits, torch.zeros(2))
        (gradient,) = torch.autograd.grad(reduce_kl(kl, "sum", free_nats=0.3), logits)
        assert gradient[0].abs().max() == 0
        assert gradient[1].abs().min() > 0
        assert reduce_kl(kl, "none", free_nats=0.3)[0].item() == pytest.approx(0.3)

    def test_the_floor_of_a_variable_is_under_its_mean(self):
        kl = torch.tensor([[0.0, 1.0], [0.8, 1.0]])  # means 0.4 and 1
        assert reduce_kl(kl, "mean", free_nats=0.5, floor="variable").item() == pytest.approx(1.5)
        assert reduce_kl(kl, "sum", free_nats=0.5, floor="variable").item() == pytest.approx(3.0)
        assert reduce_kl(kl, "mean", free_nats=0.3, floor="variable").item() == pytest.approx(1.4)

    def test_an_empty_batch_has_a_sum_and_no_mean(self):
        assert reduce_kl(torch.zeros(0, 3), "none").shape == (0,)
        assert reduce_kl(torch.zeros(0, 3), "sum") == 0
        for reduction, floor in (("mean", "example"), ("mean", "variable"), ("sum", "variable")):
            with pytest.raises(ValueError, match="is empty, so divergences have no mean"):
                reduce_kl(torch.zeros(0, 3), reduction, floor=floor)
        assert reduce_kl(torch.zeros(3, 0), "mean") == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"reduction": "batchmean"}, "reduction='batchmean'"),
            ({"reduction": "mean", "floor": "batch"}, "floor='batch'"),
            ({"reduction": "mean", "free_nats": -1.0}, "free_nats=-1.0"),
            ({"reduction": "none", "floor": "variable"}, "asks for every example"),
        ],
    )
    def test_refuses(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            reduce_kl(self.KL, **arguments)

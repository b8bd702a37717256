"""The categorical VAE: shapes, likelihood, and pixels that are refused."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent

from softhot.problems.vae import CategoricalVAE


def model(**options):
    torch.manual_seed(0)
    return CategoricalVAE(pixels=6, latents=3, classes=4, hidden=(5,), **options)


def test_log_likelihood_is_that_of_independent_bernoullis():
    vae = model()
    x = torch.bernoulli(torch.full((2, 6), 0.5), generator=torch.Generator().manual_seed(1))
    z = torch.rand(7, 2, 3, 4)
    expected = Independent(Bernoulli(logits=vae.decode(z)), 1).log_prob(x)
    torch.testing.assert_close(vae.log_likelihood(x)(z), expected)
    assert torch.equal(vae.log_likelihood(x)(z[0].expand(7, 2, 3, 4)), vae.log_likelihood(x)(z[0]).expand(7, 2))


def test_grey_pixels_are_refused_unless_asked_for_by_name():
    x = torch.full((2, 6), 0.5)
    with pytest.raises(ValueError, match=r"0\.5 to 0\.5.*grey=True"):
        model().log_likelihood(x)
    assert model(grey=True).log_likelihood(x)(torch.zeros(2, 3, 4)).shape == (2,)


@pytest.mark.parametrize("learned", [True, False])
def test_only_a_learned_prior_is_trained(learned):
    vae = model(learned_prior=learned)
    assert vae.prior.requires_grad is learned


def test_the_decoder_starts_from_the_mean_image():
    mean = torch.linspace(0.1, 0.9, 6)
    vae = model(mean=mean)
    torch.testing.assert_close(vae.decoder[-1].bias.sigmoid(), mean)
    torch.testing.assert_close(vae.posterior(mean), vae.encoder(torch.zeros(6)).reshape(3, 4))


@pytest.mark.parametrize(("latents", "classes"), [(0, 4), (3, 1)])
def test_nothing_to_learn_is_refused(latents, classes):
    with pytest.raises(ValueError, match="latents >= 1 and classes >= 2"):
        CategoricalVAE(6, latents, classes)

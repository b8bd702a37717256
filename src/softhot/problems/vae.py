r"""The categorical variational autoencoder.

.. math:: p(z) = \prod_{n=1}^N \operatorname{Cat}(z_n; \pi'_n), \qquad
    p(x \mid z) = \prod_d \operatorname{Bernoulli}(x_d; \sigma(h_d(z))), \qquad
    q(z \mid x) = \prod_n \operatorname{Cat}(z_n; \operatorname{softmax}(g_n(x)))

with multilayer perceptrons h (decoder) and g (encoder). With ``components=B`` the encoder gives logits for B
configurations, and q is their mixture in place of the product. The likelihood of the Bernoulli is one of binary pixels:
grey values in (0, 1) have no probability under it, and a number computed for them is not a log-likelihood.

References:
    Kingma, Welling (2014), "Auto-encoding variational Bayes".
    Jang, Gu, Poole (2017), "Categorical reparameterization with Gumbel-softmax", section 4.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from softhot.estimators import Integrand
from softhot.kernels import bernoulli
from softhot.kernels.routes import broadcast, unseen

__all__ = ["CategoricalVAE"]


class CategoricalVAE(nn.Module):
    r"""N latent variables of K classes, Bernoulli pixels.

    Arguments:
        pixels: the number D of pixels.
        latents: N.
        classes: K.
        hidden: widths of the hidden layers of the encoder, from the pixels; the decoder has them in reverse.
        mean: the mean training image, of shape (D,): inputs are centred by it, and the decoder starts from it.
        learned_prior: whether the prior is learned, or fixed and uniform.
        components: the number B of flows of a posterior that is a mixture of discrete flows.
        grey: accept pixels between 0 and 1, as cross-entropy targets that give no log-likelihood.
        precision: what the networks compute their matrix products in, bfloat16 or float16; what goes in and what comes
            out keeps its own precision, as do the weights.

    Example:
        >>> import torch
        >>> model = CategoricalVAE(pixels=64, latents=6, classes=4, hidden=(32,))
        >>> x = torch.ones(5, 64)
        >>> model.posterior(x).shape, model.log_likelihood(x)(torch.zeros(7, 5, 6, 4)).shape
        (torch.Size([5, 6, 4]), torch.Size([7, 5]))
    """

    centre: Tensor

    def __init__(
        self,
        pixels: int,
        latents: int,
        classes: int,
        hidden: Sequence[int] = (64,),
        *,
        mean: Float[Tensor, " pixels"] | None = None,
        learned_prior: bool = False,
        components: int | None = None,
        grey: bool = False,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if latents < 1 or classes < 2:
            raise ValueError(
                f"latents={latents}, classes={classes} leave nothing to learn; use latents >= 1 and classes >= 2."
            )
        self.latents, self.classes, self.components, self.grey = latents, classes, components, grey
        self.precision = precision
        self.encoder = _perceptron([pixels, *hidden, (components or 1) * latents * classes])
        self.decoder = _perceptron([latents * classes, *reversed(hidden), pixels])
        self.prior = nn.Parameter(torch.zeros(latents, classes), requires_grad=learned_prior)
        self.register_buffer("centre", torch.zeros(pixels) if mean is None else mean.clone())
        if mean is not None:
            with torch.no_grad():
                self.decoder[-1].get_parameter("bias").copy_(torch.logit(mean.clamp(0.01, 0.99)))

    def posterior(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*logits N K"]:
        r"""The logits of q(z | x), of shape (\*batch, N, K), or of its components, of shape (\*batch, B, N, K)."""
        logits = self._through(self.encoder, x - self.centre)
        side = () if self.components is None else (self.components,)
        return logits.reshape(*logits.shape[:-1], *side, self.latents, self.classes)

    def decode(self, z: Float[Tensor, "*batch N K"]) -> Float[Tensor, "*batch D"]:
        """The logits of the pixels."""
        return self._decode_once(z).expand(*z.shape[:-2], -1)

    def log_likelihood(self, x: Float[Tensor, "*batch D"]) -> Integrand:
        r"""The function that maps z, of shape (\*sample, \*batch, N, K), to log p(x | z), of shape (\*sample, \*batch).

        Raises:
            ValueError: If a pixel is neither 0 nor 1, unless the model was made with ``grey=True``.
        """
        if not self.grey and not unseen(x) and not bernoulli.binary(x):
            raise ValueError(
                f"the Bernoulli likelihood is one of pixels that are 0 or 1, and these run from {x.min().item():g} to "
                f"{x.max().item():g}; binarise them, or ask for CategoricalVAE(..., grey=True) by name."
            )

        def function(z: Tensor) -> Tensor:
            found = bernoulli.log_likelihood(x, self._decode_once(z))
            return found.expand(broadcast(found.shape, z.shape[:-2]) or found.shape)

        return function

    def _decode_once(self, z: Tensor) -> Tensor:
        """The logits, with a length of 1 where z is expanded and so the same: enumeration decodes once for a batch."""
        for dimension in range(z.dim() - 2):
            if z.stride(dimension) == 0:
                z = z.narrow(dimension, 0, 1)
        return self._through(self.decoder, z.flatten(-2))

    def _through(self, network: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.precision) if self.precision else nullcontext():
            y: Tensor = network(x)
        return y.to(x.dtype)


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])

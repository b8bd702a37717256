"""With straight-through estimators, is the decoder's gradient right and only the encoder's biased?

This trains a categorical VAE on the digits without bias, then measures every estimator at those same weights: the bias
of its gradient to the decoder and to the encoder against the exact gradient of the discrete ELBO, relative to its norm,
and whether it is more than noise. Run: python examples/decoder_gradient.py
"""

from __future__ import annotations

from softhot.lab.config import Config
from softhot.lab.gradients.draws import measure, reference
from softhot.lab.gradients.targets import VaeTarget
from softhot.lab.training.loop import Run, few
from softhot.problems.data import load, prepare

TEMPERATURE = 0.5
REINMAX = 1.0  # its own default, where it is exact for quadratic functions
DRAWS = 200


def main() -> None:
    """Print the table."""
    images = prepare(load("digits"), "threshold")
    run = Run(Config(estimator="leave-one-out", epochs=10), images)
    for epoch in run.epochs():
        print(f"\rtraining, epoch {epoch.epoch}: discrete ELBO {epoch.valid_elbo:.2f}", end="")
    x = few(images.test, 16)
    target = VaeTarget(run.model, x)
    truth = reference(target)
    heats = f"temperature {TEMPERATURE} where there is one, {REINMAX:g} for reinmax"
    print(f"\n{DRAWS} draws; {heats}; bias relative to the exact gradient\n")
    print(f"{'estimator':20} {'sample':8} {'decoder':>24} {'encoder':>24}")
    for name in ("leave-one-out", "straight-through", "st-gumbel-softmax", "reinmax", "gumbel-softmax"):
        heat = REINMAX if name == "reinmax" else TEMPERATURE
        estimator = Config(estimator=name).make_estimator(heat)
        found = measure(target, estimator, truth, draws=DRAWS).parts
        cells = [
            f"{one.bias:.3f} ± {one.bias_se:.3f}  {'noise' if one.bias_z <= 2 else 'biased':6}"
            for one in (found["decoder"], found["encoder"])
        ]
        print(f"{name:20} {estimator.sample:8} {cells[0]:>24} {cells[1]:>24}")


if __name__ == "__main__":
    main()

"""Train, measure, compare: a frozen configuration in, records out."""

from softhot.lab.gradients.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]

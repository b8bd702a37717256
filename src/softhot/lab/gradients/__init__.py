"""Gradients measured: what of, where, with which estimators, and how far they are from the truth."""

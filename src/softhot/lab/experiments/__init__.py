"""Measurements that need no training of a model: entropies, descents of known problems, posteriors of networks."""

"""softhot timed against other libraries that do the same, or the nearest thing they have.

Run a module from the root of the repository: python -m benchmarks.sampler
"""

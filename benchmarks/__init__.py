"""Measurements of speed and memory, which `docs/performance.md` shows. The package `itrd_nlp` does not import them.

Run them from the root of the repository: all by `python benchmarks/bench.py`, and one by `python -m benchmarks.losses`.
"""

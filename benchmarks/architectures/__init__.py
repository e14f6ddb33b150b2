"""Every architecture of the installed transformers as student and teacher: tiny models, what works, and the page of it.

`python -m benchmarks.architectures.run` writes ``docs/results/architectures/architectures.json`` and
``docs/models.md``.
"""

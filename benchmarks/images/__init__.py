"""The experiments of the paper on images: `python -m benchmarks.images benchmarks/images/digits.yaml`.

A file of this folder is one experiment: the data, the two networks, the training that all methods share, the methods.
"""

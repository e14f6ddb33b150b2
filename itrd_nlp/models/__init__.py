"""Encoders of transformers: loading, building students, and reading hidden states and attention.

This package holds the code that depends on the structure of an architecture. Losses, training and tasks live elsewhere.
"""

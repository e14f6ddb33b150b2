"""Encoders of transformers: load them, build students of them, read their hidden states and attention.

Here lives all that must know how an architecture is made. Losses, training and tasks do not belong here.
"""

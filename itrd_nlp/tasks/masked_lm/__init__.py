"""Task-agnostic distillation: a student learns from plain text, and is fine-tuned for its tasks afterwards.

Two tasks live here, which differ in the head of the teacher. `masked-lm` has one that predicts masked tokens. `encoder`
has none, so that hidden states alone teach.
"""

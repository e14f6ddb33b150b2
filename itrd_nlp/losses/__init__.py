"""Distillation losses on plain tensors. This package needs torch, but not transformers.

- `correlation_loss` and `mutual_information_loss` compare features. Each also exists as a module with a projection.
- `alignment_loss` compares Gram matrices, and its minimum is the teacher.
- `kd_loss` and `span_kd_loss` compare logits.
- `matrix_entropy` and its relatives compute Rényi entropies of any order, for analysis.
"""

from itrd_nlp.losses.alignment import alignment_loss
from itrd_nlp.losses.correlation import (
    CorrelationLoss,
    correlation_loss,
    feature_correlations,
    mean_correlation,
)
from itrd_nlp.losses.logits import (
    bernoulli_kd_loss,
    kd_loss,
    mean_bernoulli,
    mean_prediction,
    span_kd_loss,
    value_kd_loss,
)
from itrd_nlp.losses.mutual_information import MutualInformationLoss, mutual_information_loss
from itrd_nlp.losses.projection import make_projection
from itrd_nlp.losses.renyi import gram_matrix, joint_entropy, matrix_entropy, mutual_information

__all__ = [
    "CorrelationLoss",
    "MutualInformationLoss",
    "alignment_loss",
    "bernoulli_kd_loss",
    "correlation_loss",
    "feature_correlations",
    "gram_matrix",
    "joint_entropy",
    "kd_loss",
    "make_projection",
    "matrix_entropy",
    "mean_bernoulli",
    "mean_correlation",
    "mean_prediction",
    "mutual_information",
    "mutual_information_loss",
    "span_kd_loss",
    "value_kd_loss",
]

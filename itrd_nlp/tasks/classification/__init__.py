"""Classification of texts, pairs of texts and tokens, with the same trainer as SQuAD."""

from itrd_nlp.classification.data import TextArguments, read_rows
from itrd_nlp.classification.features import classification_features
from itrd_nlp.classification.from_squad import punctuation_marks, sentence_pairs
from itrd_nlp.classification.metrics import ClassificationMetrics

__all__ = [
    "ClassificationMetrics",
    "TextArguments",
    "classification_features",
    "punctuation_marks",
    "read_rows",
    "sentence_pairs",
]

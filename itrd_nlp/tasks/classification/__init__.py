"""Classification of texts, pairs of texts and tokens, with the same trainer as SQuAD."""

from itrd_nlp.tasks.classification.data import TextArguments, read_rows
from itrd_nlp.tasks.classification.features import classification_features
from itrd_nlp.tasks.classification.from_squad import punctuation_marks, sentence_pairs
from itrd_nlp.tasks.classification.metrics import ClassificationMetrics

__all__ = [
    "ClassificationMetrics",
    "TextArguments",
    "classification_features",
    "punctuation_marks",
    "read_rows",
    "sentence_pairs",
]

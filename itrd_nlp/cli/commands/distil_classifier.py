"""Distil a classifier of texts or tokens into a shallower student, by ITRD and logit KD.

    accelerate launch scripts/distil_classifier.py configs/classification/sentences_t3.yaml [--beta_corr 4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the student, its tokenizer and
results.json (accuracy and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.distillation.arguments import ITRDTrainingArguments
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.classification.data import TextArguments
    from itrd_nlp.tasks.classification.workflows import distil_classifier
    from itrd_nlp.tasks.question_answering.workflows import StudentArguments

    groups = (StudentArguments, LoadingArguments, TextArguments, ITRDTrainingArguments)
    distil_classifier(*parse(groups, description=__doc__), record=record())

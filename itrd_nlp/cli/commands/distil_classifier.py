"""Distil a classifier of texts or tokens into a shallower student, by ITRD and logit KD.

    accelerate launch scripts/distil_classifier.py configs/sentences_t3.yaml [--beta_corr 4 ...]

The YAML holds the whole experiment; what follows it on the command line wins. Writes the student, its tokenizer and
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

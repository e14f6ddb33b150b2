"""Distil a classifier of texts or tokens into a shallower student, by ITRD and logit KD.

    accelerate launch scripts/distil_classifier.py configs/sentences_t3.yaml [--beta_corr 4 ...]

The YAML holds the whole experiment; what follows it on the command line wins. Writes the student, its tokenizer and
results.json (accuracy and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp import cli


def main() -> None:
    from itrd_nlp.classification.data import TextArguments
    from itrd_nlp.classification.workflows import distil_classifier
    from itrd_nlp.models import LoadingArguments
    from itrd_nlp.question_answering.workflows import StudentArguments
    from itrd_nlp.training_args import ITRDTrainingArguments

    groups = (StudentArguments, LoadingArguments, TextArguments, ITRDTrainingArguments)
    distil_classifier(*cli.parse(groups, description=__doc__), record=cli.record())


if __name__ == "__main__":
    cli.run(main)

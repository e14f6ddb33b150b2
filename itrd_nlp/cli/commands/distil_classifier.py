"""Distil a classifier of texts or tokens into a shallower student, by ITRD and logit KD.

    itrd-nlp distil-classifier sentences_t3 --teacher runs/my_classifier --output_dir runs/my_student
    accelerate launch scripts/distil_classifier.py configs/classification/sentences_t3.yaml [--beta_corr 4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the student, its tokenizer and
results.json (accuracy and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.jobs import distil_command


def main() -> None:
    distil_command(__doc__, task="classification")

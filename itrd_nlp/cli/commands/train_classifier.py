"""Fine-tune an encoder on labelled texts or labelled tokens: a teacher for distil-classifier.

    itrd-nlp train-classifier sentences_teacher --output_dir runs/my_classifier
    accelerate launch scripts/train_classifier.py configs/classification/sentences_teacher.yaml [--seed 1 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the model, its tokenizer and
results.json (metrics, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.jobs import fine_tune_command


def main() -> None:
    fine_tune_command(__doc__, task="classification")

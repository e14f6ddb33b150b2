"""Judge a model, or a file of answers, on any task.

    itrd-nlp evaluate --model runs/my_student --validation_file dev.jsonl

The task is that of the model's head, or of --task. The last line on stdout is one JSON object with the scores in
percent.
"""

from itrd_nlp.cli.jobs import evaluate_command


def main() -> None:
    evaluate_command(__doc__)

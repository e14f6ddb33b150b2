"""Exact match and F1 on SQuAD 1.1, of a model or of a file of predictions.

    itrd-nlp evaluate-squad --model runs/squad_minilm_t3 --validation_file assets/squad/dev-v1.1.json
    itrd-nlp evaluate-squad --predictions_file answers.json --validation_file assets/squad/dev-v1.1.json

The last line on stdout is one JSON object with exact_match and f1 in percent. A question without a prediction counts
0, as in the official script.
"""

from itrd_nlp.cli.jobs import evaluate_command


def main() -> None:
    evaluate_command(__doc__, task="question-answering")

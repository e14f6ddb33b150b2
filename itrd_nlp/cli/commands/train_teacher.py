"""Fine-tune an encoder on SQuAD 1.1, to become a teacher.

    itrd-nlp train-teacher minilm_teacher --output_dir runs/my_teacher
    accelerate launch scripts/train_teacher.py configs/minilm/minilm_teacher.yaml [--learning_rate 1e-4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the model, its tokenizer and
results.json (EM, F1, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.jobs import fine_tune_command


def main() -> None:
    fine_tune_command(__doc__, task="question-answering")

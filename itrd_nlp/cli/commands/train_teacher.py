"""Fine-tune an encoder on SQuAD 1.1, to become a teacher.

    accelerate launch scripts/train_teacher.py configs/teacher_minilm.yaml [--learning_rate 1e-4 ...]

The YAML holds the whole experiment; what follows it on the command line wins. Writes the model, its tokenizer and
results.json (EM, F1, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.jobs import fine_tune_command


def main() -> None:
    fine_tune_command(__doc__, task="question-answering")

"""Fine-tune an encoder on any task: a teacher, for example.

    itrd-nlp fine-tune minilm_teacher --model_name_or_path MODEL --output_dir runs/my_teacher
    accelerate launch scripts/fine_tune.py CONFIG.yaml --task classification [--learning_rate 1e-4 ...]

The config, or --task, names the task. The YAML holds the whole experiment; an option that follows it wins. The command
writes the model, its tokenizer, results.json, a card and a report to output_dir.
"""

from itrd_nlp.cli.jobs import fine_tune_command


def main() -> None:
    fine_tune_command(__doc__)

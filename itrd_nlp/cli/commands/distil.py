"""Distil a fine-tuned teacher into a shallower student, on any task.

    itrd-nlp distil minilm_t3 --teacher runs/my_teacher --output_dir runs/my_student
    itrd-nlp distil sentences_t3 --task classification --teacher runs/my_classifier --output_dir runs/my_student
    accelerate launch scripts/distil.py CONFIG.yaml --task classification [--beta_corr 4 ...]

The config, or --task, names the task. The YAML holds the whole experiment; an option that follows it wins. The command
writes the student, its tokenizer, results.json, a card and a report to output_dir.
"""

from itrd_nlp.cli.jobs import distil_command


def main() -> None:
    distil_command(__doc__)

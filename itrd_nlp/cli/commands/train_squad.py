"""Distil a fine-tuned teacher into a shallower student on SQuAD 1.1, by ITRD and logit KD.

    itrd-nlp train-squad minilm_t3 --teacher runs/my_teacher --output_dir runs/my_student
    itrd-nlp train-squad minilm_t3 --resume_from_checkpoint true
    accelerate launch scripts/train_squad.py configs/minilm/minilm_t3.yaml [--beta_corr 4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the student, its tokenizer and
results.json (EM and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.jobs import distil_command


def main() -> None:
    distil_command(__doc__, task="question-answering")

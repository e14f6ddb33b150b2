"""Fine-tune an encoder on SQuAD 1.1, to become a teacher."""

from itrd_nlp.cli.main import run_command

run_command("train-teacher")

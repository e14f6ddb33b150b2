"""Fine-tune an encoder on labelled texts or labelled tokens: a teacher for distil-classifier."""

from itrd_nlp.cli.main import run_command

run_command("train-classifier")

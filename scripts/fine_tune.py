"""Fine-tune an encoder on any task: a teacher, for example."""

from itrd_nlp.cli.main import run_command

run_command("fine-tune")

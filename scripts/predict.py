"""Answer questions about texts with a trained model."""

from itrd_nlp.cli.main import run_command

run_command("predict")

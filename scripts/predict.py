"""Answer questions about texts, or label texts, with a trained model."""

from itrd_nlp.cli.main import run_command

run_command("predict")

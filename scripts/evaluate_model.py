"""Judge a model, or a file of answers, on any task."""

from itrd_nlp.cli.main import run_command

run_command("evaluate")

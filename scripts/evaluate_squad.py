"""Exact match and F1 on SQuAD 1.1, of a model or of a file of predictions."""

from itrd_nlp.cli.main import run_command

run_command("evaluate-squad")

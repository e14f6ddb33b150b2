"""Make three classification data sets of SQuAD 1.1, as JSON lines."""

from itrd_nlp.cli.main import run_command

run_command("make-classification-data")

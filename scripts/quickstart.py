"""Fetch SQuAD and MiniLM-L6, fine-tune a small teacher, and distil a student of 3 layers from it."""

from itrd_nlp.cli.main import run_command

run_command("quickstart")

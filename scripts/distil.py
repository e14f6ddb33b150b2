"""Distil a fine-tuned teacher into a shallower student, on any task."""

from itrd_nlp.cli.main import run_command

run_command("distil")

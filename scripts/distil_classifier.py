"""Distil a classifier of texts or tokens into a shallower student, by ITRD and logit KD."""

from itrd_nlp.cli.main import run_command

run_command("distil-classifier")

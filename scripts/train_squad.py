"""Distil a fine-tuned teacher into a shallower student on SQuAD 1.1, by ITRD and logit KD."""

from itrd_nlp.cli.main import run_command

run_command("train-squad")

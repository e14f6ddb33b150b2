"""Distil on SQuAD 1.1 by TextBrewer's own distiller, losses and recipe, to compare with train-squad."""

from itrd_nlp.cli.main import run_command

run_command("train-textbrewer")

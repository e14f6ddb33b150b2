"""Take a fine-tuned or distilled model to int8 or int4 weights by torchao, and judge it before and after."""

from itrd_nlp.cli.main import run_command

run_command("quantise")

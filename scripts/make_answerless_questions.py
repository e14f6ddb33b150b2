"""Ask the questions of SQuAD about other contexts of their article: more to distil on, without answers."""

from itrd_nlp.cli.main import run_command

run_command("make-unlabelled-questions")

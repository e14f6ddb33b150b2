"""Ask some questions of SQuAD 1.1 about a context that does not answer them, for a data set like SQuAD 2.0."""

from itrd_nlp.cli.main import run_command

run_command("make-answerless-questions")

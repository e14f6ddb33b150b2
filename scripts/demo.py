"""Open a page that answers questions about your own text, teacher and student side by side."""

from itrd_nlp.cli.main import run_command

run_command("demo")

"""Write report.html: what a run's student kept of its teacher, how it learned, where the two disagree."""

from itrd_nlp.cli.main import run_command

run_command("report")

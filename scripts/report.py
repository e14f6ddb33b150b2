"""Write report.html: how much the student of a run kept of its teacher, its training, and their disagreements."""

from itrd_nlp.cli.main import run_command

run_command("report")

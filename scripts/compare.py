"""Train several methods under one budget and compare them: tables, intervals, figures."""

from itrd_nlp.cli.main import run_command

run_command("compare")

"""Start a command by accelerate, in one process or in many, and end with its exit code and its last sentence."""

from itrd_nlp.cli.main import run_command

run_command("launch")

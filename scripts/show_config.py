"""Print the whole of a config, its bases included; without an argument, list the configs of the package."""

from itrd_nlp.cli.main import run_command

run_command("show-config")

"""Push a student, or a fine-tuned teacher, to the Hugging Face Hub."""

from itrd_nlp.cli.main import run_command

run_command("push-to-hub")

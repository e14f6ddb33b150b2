"""Export a question-answering model to ONNX and int8, and compare both with torch on the same questions."""

from itrd_nlp.cli.main import run_command

run_command("export-onnx")

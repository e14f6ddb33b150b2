"""Export a model to ONNX, int8 and int4, and compare all with torch on the same examples."""

from itrd_nlp.cli.main import run_command

run_command("export-onnx")

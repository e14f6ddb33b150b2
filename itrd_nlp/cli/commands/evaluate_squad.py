"""Exact match and F1 on SQuAD 1.1, of a model or of a file of predictions.

    python scripts/evaluate_squad.py --model runs/squad_minilm_t3 --validation_file assets/squad/dev-v1.1.json
    python scripts/evaluate_squad.py --predictions_file answers.json --validation_file assets/squad/dev-v1.1.json

The last line on stdout is one JSON object with exact_match and f1 in percent. A question without a prediction counts
0, as in the official script.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError


@dataclass
class EvaluationArguments:
    """What is judged."""

    model: str | None = field(default=None, metadata={"help": "Folder or model id."})
    predictions_file: str | None = field(
        default=None, metadata={"help": "JSON object, question id to answer, in place of a model."}
    )
    output_file: str | None = field(
        default=None, metadata={"help": "Write the model's answers here, as such a JSON object."}
    )
    batch_size: int = field(default=64, metadata={"help": "Windows a process and step."})
    bf16: bool = field(default=False, metadata={"help": "Run the model under bf16 autocast."})
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Cast the weights. In a bf16 training the teacher runs in bfloat16.",
            "choices": ["float32", "bfloat16", "float16"],
        },
    )


def main() -> None:
    from itrd_nlp.files import write_json
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.question_answering import evaluate_predictions, load_predictions
    from itrd_nlp.tasks.question_answering.data import DataArguments, load_validation_examples
    from itrd_nlp.tasks.question_answering.workflows import evaluate_checkpoint

    groups = (EvaluationArguments, LoadingArguments, DataArguments)
    args, loading, data = parse(groups, description=__doc__)
    if (args.model is None) == (args.predictions_file is None):
        raise UserError("give either --model or --predictions_file, one of the two.")
    if args.predictions_file is not None:
        predictions = load_predictions(args.predictions_file)
        results = evaluate_predictions(predictions, load_validation_examples(data))
    else:
        results, predictions = evaluate_checkpoint(
            args.model, loading, data, batch_size=args.batch_size, bf16=args.bf16, dtype=args.dtype
        )
        if args.output_file is not None:
            write_json(Path(args.output_file), predictions)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(results))

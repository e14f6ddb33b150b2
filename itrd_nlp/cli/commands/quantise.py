"""Take a fine-tuned or distilled model to int8 or int4 weights by torchao, and judge it before and after.

    itrd-nlp quantise --model runs/my_student --weights int8 --validation_file assets/squad/dev-v1.1.json \\
        --output_dir runs/my_student_int8

Writes a folder that transformers, evaluate, predict and push-to-hub read where torchao is installed, with the scores in
its results.json. Prints score, megabytes and milliseconds before and after. A model that loses more than max_f1_drop
points is not kept, and the exit code is 2.
"""

import sys
from dataclasses import dataclass, field

from itrd_nlp.cli.jobs import (
    JUDGED_MODEL,
    TaskArguments,
    as_trained,
    asked_name,
    asked_task,
    hide_short_bars,
)
from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import answer_help, parse
from itrd_nlp.cli.process import command_line
from itrd_nlp.models.options import WEIGHTS, LoadingArguments
from itrd_nlp.tasks import options_of
from itrd_nlp.training.ranges import BATCH, Range
from itrd_nlp.training.roles import Metadata


@dataclass
class QuantiseArguments:
    """The model, the form of its weights, and the score that it may lose."""

    model: str = field(metadata={"help": JUDGED_MODEL})
    output_dir: str = field(metadata={"help": "Folder for the quantised model."})
    weights: str = field(
        default="int8",
        metadata=Metadata(
            help="Weights of the linear layers in repeated layers: int8, or values of 4 bits (int4).",
            choices=WEIGHTS,
        ),
    )
    max_f1_drop: float = field(
        default=1.0,
        metadata=Metadata(help="Largest loss in points of the main metric.", range=Range(least=0)),
    )
    batch_size: int = field(default=32, metadata=Metadata(help="Windows in a batch.", range=BATCH))


def main() -> None:
    data, _ = options_of(asked_name(sys.argv[1:]))
    answer_help([TaskArguments, QuantiseArguments, LoadingArguments, data], __doc__)
    from itrd_nlp.tasks.jobs.quantise import quantise

    task = asked_task(sys.argv[1:], model_option="model")
    groups = (TaskArguments, QuantiseArguments, LoadingArguments, task.arguments)
    _, args, loading, data_args = parse(groups, description=__doc__)
    check_local_paths(arguments_of([args, data_args]))
    hide_short_bars()
    quantise(
        task(as_trained(data_args, args.model, loading.model_revision)),
        args.model,
        loading,
        weights=args.weights,
        output_dir=args.output_dir,
        max_f1_drop=args.max_f1_drop,
        batch_size=args.batch_size,
        command=command_line(),
    )

"""Export a model to ONNX, int8 and int4, and compare all with torch on the same examples.

    itrd-nlp export-onnx --model runs/my_student --validation_file assets/squad/dev-v1.1.json

Writes the folders onnx and onnx_int8, with --int4 true onnx_int4, and the file export.json into output_dir, and prints
the task's scores and the speed of all. A quantized model that loses more than max_f1_drop points is not kept, and the
exit code is 2. One made before stays, and so does the fp32 export.
"""

import sys
from dataclasses import dataclass, field

from itrd_nlp.cli.jobs import JUDGED_MODEL, TaskArguments, as_trained, asked_name, asked_task
from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import answer_help, parse
from itrd_nlp.cli.process import command_line
from itrd_nlp.models.onnx_record import OPSET, OPSETS
from itrd_nlp.models.options import LoadingArguments
from itrd_nlp.tasks import options_of
from itrd_nlp.training.ranges import BATCH, Range
from itrd_nlp.training.roles import Metadata


@dataclass
class ExportArguments:
    """The model, and the score that its quantized forms may lose."""

    model: str = field(metadata={"help": JUDGED_MODEL})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the exports. Default: the folder of the model."}
    )
    int8: bool = field(
        default=True, metadata={"help": "Quantize linear layers and embeddings to 8 bits, too."}
    )
    int4: bool = field(
        default=False,
        metadata={"help": "Quantize linear layers to 4 bits and embeddings to 8, too."},
    )
    max_f1_drop: float = field(
        default=1.0,
        metadata=Metadata(
            help="Largest loss of int8 and of int4, in points of the main metric.",
            range=Range(least=0),
        ),
    )
    opset: int = field(
        default=OPSET,
        metadata=Metadata(
            help=f"Version of the ONNX operators, {OPSETS[0]} to {OPSETS[-1]}.",
            range=Range(least=OPSETS[0], most=OPSETS[-1], whole=True),
        ),
    )
    batch_size: int = field(default=32, metadata=Metadata(help="Windows in a batch.", range=BATCH))


def main() -> None:
    data, _ = options_of(asked_name(sys.argv[1:]))
    answer_help([TaskArguments, ExportArguments, LoadingArguments, data], __doc__)
    from itrd_nlp.tasks.jobs.export import export

    task = asked_task(sys.argv[1:], model_option="model")
    groups = (TaskArguments, ExportArguments, LoadingArguments, task.arguments)
    _, args, loading, data_args = parse(groups, description=__doc__)
    check_local_paths(arguments_of([args, data_args]))
    export(
        task(as_trained(data_args, args.model, loading.model_revision)),
        args.model,
        loading,
        output_dir=args.output_dir,
        int8=args.int8,
        int4=args.int4,
        max_f1_drop=args.max_f1_drop,
        opset=args.opset,
        batch_size=args.batch_size,
        record={"command": command_line()},
    )

"""Open a page that answers questions about your own text, teacher and student side by side.

    itrd-nlp demo runs/my_student
    itrd-nlp demo --model runs/my_student --teacher runs/my_teacher --port 7861
    itrd-nlp demo --push_space USER/NAME --student_repo USER/STUDENT --teacher_repo USER/TEACHER

The teacher is the one in the student's results.json, where that is a folder that is still there. With --push_space
nothing runs here: the page is uploaded as a Space that loads its models from the Hub. It needs the extra:
pip install itrd_nlp[demo].
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from itrd_nlp.cli.local_paths import arguments_of, check_local_paths
from itrd_nlp.cli.parser import parse
from itrd_nlp.errors import UserError
from itrd_nlp.training.ranges import Range
from itrd_nlp.training.roles import Metadata, given_names


@dataclass
class DemoArguments:
    """The page on this machine."""

    model: str | None = field(
        default=None,
        metadata={
            "help": "Folder, ONNX folder or model id of the student; may come first, without --model."
        },
    )
    teacher: str | None = field(
        default=None,
        metadata={
            "help": "Folder, ONNX folder or model id of the teacher. Default: the teacher that the student's "
            "results.json names, where that is a folder that is still there."
        },
    )
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "Address of the page. 0.0.0.0 lets other machines see it."},
    )
    port: int | None = field(
        default=None,
        metadata=Metadata(
            help="Port of the page. Default: the first free one from 7860 on.",
            range=Range(least=1, most=65535, whole=True),
        ),
    )
    device: str | None = field(
        default=None,
        metadata={"help": "Device, such as cpu or cuda:1. Default: the first accelerator."},
    )


@dataclass
class SpaceArguments:
    """The page as a Space."""

    push_space: str | None = field(
        default=None, metadata={"help": "USER/NAME of the Space to upload."}
    )
    student_repo: str | None = field(
        default=None,
        metadata={"help": "Model id of the student. Default: --model, if it is a model id."},
    )
    teacher_repo: str | None = field(
        default=None,
        metadata={"help": "Model id of the teacher. Default: the page has no teacher."},
    )
    private: bool = field(
        default=False,
        metadata={"help": "Create the Space for yourself or your organisation alone."},
    )


def main() -> None:
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else "-"
    # `demo DIR`: what comes first and is no config is the model.
    if not first.startswith("-") and Path(first).suffix.lower() not in (".yaml", ".yml"):
        arguments = ["--model", *arguments]
    args, space = parse((DemoArguments, SpaceArguments), arguments, description=__doc__)
    if space.push_space is not None:
        _check_alone(args, space)
        _push(space.push_space, args, space)
    elif space != SpaceArguments():
        raise UserError("student_repo, teacher_repo and private need --push_space USER/NAME.")
    elif args.model is None:
        raise UserError("give the folder of a student, as in `itrd-nlp demo runs/my_student`.")
    else:
        _serve(args.model, args)


def _serve(model: str, args: DemoArguments) -> None:
    check_local_paths(arguments_of([args]))
    from itrd_nlp.tasks.demo import build_demo, launch, recorded_teacher
    from itrd_nlp.tasks.question_answering.pipeline import load_pipeline

    teacher = args.teacher or recorded_teacher(model)
    pipelines = [load_pipeline(name, device=args.device) for name in (model, teacher) if name]
    launch(build_demo(*pipelines), host=args.host, port=args.port)


def _check_alone(args: DemoArguments, space: SpaceArguments) -> None:
    """Refuse what a page has that runs here.

    Raises:
        UserError: see there.
    """
    given = [n for n in given_names(args) if n != "model" or space.student_repo is not None]
    if given:
        raise UserError(
            f"{' and '.join(given)} would do nothing beside push_space, with which nothing runs here; a Space has its "
            "models by student_repo and teacher_repo."
        )


def _push(name: str, args: DemoArguments, space: SpaceArguments) -> None:
    from itrd_nlp.tasks.space import push_space

    student = space.student_repo
    if student is None and args.model is not None and not Path(args.model).exists():
        student = args.model
    if student is None:
        raise UserError(
            "a Space loads its models from the Hub: push the student first, and give its id by --student_repo."
        )
    print(push_space(name, student, space.teacher_repo, private=space.private))

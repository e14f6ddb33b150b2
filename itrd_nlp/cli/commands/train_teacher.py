"""Fine-tune an encoder on SQuAD 1.1, to become a teacher.

    accelerate launch scripts/train_teacher.py configs/minilm/minilm_teacher.yaml [--learning_rate 1e-4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the model, its tokenizer and
results.json (EM, F1, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.question_answering.data import DataArguments
    from itrd_nlp.tasks.question_answering.workflows import TeacherArguments, fine_tune
    from itrd_nlp.training.arguments import FineTuningArguments

    groups = (TeacherArguments, LoadingArguments, DataArguments, FineTuningArguments)
    arguments = parse(groups, description=__doc__)
    fine_tune(*arguments, record=record())

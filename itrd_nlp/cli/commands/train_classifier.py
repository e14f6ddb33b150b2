"""Fine-tune an encoder on labelled texts or labelled tokens: a teacher for distil_classifier.py.

    accelerate launch scripts/train_classifier.py configs/classification/sentences_teacher.yaml [--seed 1 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the model, its tokenizer and
results.json (accuracy and F1, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.classification.data import TextArguments
    from itrd_nlp.tasks.classification.workflows import fine_tune_classifier
    from itrd_nlp.tasks.question_answering.workflows import TeacherArguments
    from itrd_nlp.training.arguments import FineTuningArguments

    groups = (TeacherArguments, LoadingArguments, TextArguments, FineTuningArguments)
    fine_tune_classifier(*parse(groups, description=__doc__), record=record())

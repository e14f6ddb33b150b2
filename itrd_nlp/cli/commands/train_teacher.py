"""Fine-tune an encoder on SQuAD 1.1, to become a teacher.

    accelerate launch scripts/train_teacher.py configs/teacher_minilm.yaml [--learning_rate 1e-4 ...]

The YAML holds the whole experiment; what follows it on the command line wins. Writes the model, its tokenizer and
results.json (EM, F1, arguments, versions) to output_dir.
"""

from itrd_nlp import cli


def main() -> None:
    from itrd_nlp.models import LoadingArguments
    from itrd_nlp.question_answering.data import DataArguments
    from itrd_nlp.question_answering.workflows import TeacherArguments, fine_tune
    from itrd_nlp.training_args import FineTuningArguments

    groups = (TeacherArguments, LoadingArguments, DataArguments, FineTuningArguments)
    arguments = cli.parse(groups, description=__doc__)
    fine_tune(*arguments, record=cli.record())


if __name__ == "__main__":
    cli.run(main)

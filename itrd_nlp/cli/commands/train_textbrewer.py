"""Distil on SQuAD 1.1 by TextBrewer's own distiller, losses and recipe, to compare with train_squad.py.

    python scripts/train_textbrewer.py configs/minilm/textbrewer_minilm_t3_subset.yaml [--temperature 4 ...]

Data, batches, optimizer and schedule are given as for train_squad.py, and so are the results. One process; a run that
is interrupted starts anew.
"""

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.distillation.textbrewer_trainer import TextBrewerArguments
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.question_answering.data import DataArguments
    from itrd_nlp.tasks.question_answering.workflows import StudentArguments, distil

    groups = (StudentArguments, LoadingArguments, DataArguments, TextBrewerArguments)
    distil(*parse(groups, description=__doc__), record=record())

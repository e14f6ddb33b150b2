"""Distil a fine-tuned teacher into a shallower student on SQuAD 1.1, by ITRD and logit KD.

    accelerate launch scripts/train_squad.py configs/minilm/minilm_t3.yaml [--beta_corr 4 ...]

The YAML and its base hold the whole experiment; a flag after it wins. Writes the student, its tokenizer and
results.json (EM and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp.cli.parser import parse
from itrd_nlp.cli.process import record


def main() -> None:
    from itrd_nlp.distillation.arguments import ITRDTrainingArguments
    from itrd_nlp.models.loading import LoadingArguments
    from itrd_nlp.tasks.question_answering.data import DataArguments
    from itrd_nlp.tasks.question_answering.workflows import StudentArguments, distil

    groups = (StudentArguments, LoadingArguments, DataArguments, ITRDTrainingArguments)
    arguments = parse(groups, description=__doc__)
    distil(*arguments, record=record())

"""Distil a fine-tuned teacher into a shallower student on SQuAD 1.1, by ITRD and logit KD.

    accelerate launch scripts/train_squad.py configs/squad_minilm_t3.yaml [--beta_corr 4 ...]

The YAML holds the whole experiment; what follows it on the command line wins. Writes the student, its tokenizer and
results.json (EM and F1 of both, arguments, versions) to output_dir.
"""

from itrd_nlp import cli


def main() -> None:
    from itrd_nlp.models import LoadingArguments
    from itrd_nlp.question_answering.data import DataArguments
    from itrd_nlp.question_answering.workflows import StudentArguments, distil
    from itrd_nlp.training_args import ITRDTrainingArguments

    groups = (StudentArguments, LoadingArguments, DataArguments, ITRDTrainingArguments)
    arguments = cli.parse(groups, description=__doc__)
    distil(*arguments, record=cli.record())


if __name__ == "__main__":
    cli.run(main)

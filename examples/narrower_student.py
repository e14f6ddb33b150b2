"""Distil into a student that is narrower than its teacher, and start it from a checkpoint of its own.

    python examples/narrower_student.py

`build_student` keeps the teacher's width. A narrower student has a configuration, or a checkpoint, of its own. Linear
layers between the widths are made by themselves and are not saved with the student.
"""

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, DataCollatorWithPadding

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments

torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})


def bert(layers: int, width: int) -> BertForSequenceClassification:
    config = BertConfig(vocab_size=len(words), hidden_size=width, num_hidden_layers=layers, num_attention_heads=4)
    return BertForSequenceClassification(config)


teacher = bert(layers=6, width=96)  # yours: AutoModelForSequenceClassification.from_pretrained("my-teacher")
student = bert(layers=3, width=32)  # yours: ....from_pretrained("a-small-encoder", num_labels=2)

texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 16})
args = ITRDTrainingArguments(
    "out/narrow",
    layer_map=["1:2", "2:4", "3:6"],  # student layer:teacher layer; the default, uniform, gives the same
    alpha=1.5,  # the paper's choice where the architectures differ
    num_train_epochs=3,
    disable_tqdm=True,
    logging_strategy="no",
    save_strategy="no",
    report_to="none",
)
trainer = ITRDTrainer(student, teacher, args, train_dataset=data, data_collator=DataCollatorWithPadding(tokenizer))
trainer.train()
trainer.save_model()
sizes = [model.num_parameters() for model in (teacher, student)]
saved = BertForSequenceClassification.from_pretrained("out/narrow").num_parameters()
print(f"a teacher of {sizes[0]:,} parameters taught a student of {sizes[1]:,}, and {saved:,} are saved")

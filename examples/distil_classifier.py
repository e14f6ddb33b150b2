"""Distil a text classifier of four layers into one of two.

    python examples/distil_classifier.py

The teacher is made here of 64 sentences, so that the example runs at once. Yours comes by `from_pretrained`.
"""

from itertools import product

import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student

torch.manual_seed(0)
words = "[PAD] [UNK] [CLS] [SEP] [MASK] the film book play song was is not very good fine bad dull".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
rows = [
    {"text": f"the {noun} {verb} {no} {word}", "labels": int((word in "good fine") != (no == "not"))}
    for noun, verb, no, word in product(words[6:10], words[10:12], words[12:14], words[14:18])
]
data = Dataset.from_list(rows).map(lambda row: tokenizer(row["text"]))

quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
both = {"per_device_train_batch_size": 16, "learning_rate": 1e-3, "num_train_epochs": 15, **quiet}
shared = {"train_dataset": data, "eval_dataset": data, "data_collator": DataCollatorWithPadding(tokenizer)}

# The teacher. Yours: AutoModelForSequenceClassification.from_pretrained("my-teacher")
tiny = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny, **still)
teacher = BertForSequenceClassification(config)
Trainer(teacher, TrainingArguments("out/classifier_teacher", **both), **shared).train()

# The student starts as the first two layers of its teacher. The task loss, KD and both losses of ITRD teach it.
student = build_student(teacher, num_layers=2)
args = ITRDTrainingArguments("out/classifier", beta_corr=2.0, beta_mi=1.0, temperature=2.0, **both)
trainer = ITRDTrainer(student, teacher, args, processing_class=tokenizer, **shared)
trainer.train()
trainer.save_model()  # the student alone, with its tokenizer

# Somebody else loads it without this package.
loaded = BertForSequenceClassification.from_pretrained("out/classifier").eval()
batch = tokenizer(["the film was very good", "the film was not good"], return_tensors="pt")
with torch.no_grad():
    answers = loaded(**batch).logits.argmax(-1).tolist()
print(f"a student of {loaded.config.num_hidden_layers} layers says {answers} for 'very good' and 'not good'")

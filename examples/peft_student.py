"""Distil into LoRA adapters: a student of two layers trains and saves its adapters and its head alone.

    python examples/peft_student.py

It needs `pip install peft`. The teacher is made here of four texts; yours comes by `from_pretrained`.
"""

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
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
words = "[PAD] [UNK] [CLS] [SEP] [MASK] a good bad long short film book".split()
tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
texts = ["a good film", "a bad film", "a long good book", "a short bad book"] * 16
data = Dataset.from_dict({**tokenizer(texts), "labels": [1, 0, 1, 0] * 16})
shared = {"train_dataset": data, "data_collator": DataCollatorWithPadding(tokenizer)}
quiet = {"logging_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}

tiny = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
config = BertConfig(vocab_size=len(words), **tiny, **still)
teacher = BertForSequenceClassification(config)
Trainer(teacher, TrainingArguments("out/lora_teacher", learning_rate=1e-3, **quiet), **shared).train()

base = build_student(teacher, num_layers=2)  # it stays as it is
base.save_pretrained("out/lora_base")
lora = LoraConfig(r=4, target_modules=["query", "value"], modules_to_save=["classifier"])
student = get_peft_model(base, lora)
args = ITRDTrainingArguments("out/lora", learning_rate=5e-3, num_train_epochs=8, **quiet)
trainer = ITRDTrainer(student, teacher, args, **shared)
trainer.train()
trainer.save_model()

base = BertForSequenceClassification.from_pretrained("out/lora_base")
loaded = PeftModel.from_pretrained(base, "out/lora").eval()
with torch.no_grad():
    answers = loaded(**tokenizer(["a good book", "a bad book"], return_tensors="pt")).logits.argmax(-1).tolist()
trained, everything = student.get_nb_trainable_parameters()
print(f"{trained:,} of {everything:,} parameters were trained; the student says {answers} for good and bad")

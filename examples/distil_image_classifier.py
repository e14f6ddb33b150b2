"""Distil a classifier of images: a vision transformer of four layers into one of two.

    python examples/distil_image_classifier.py

The trainer is the one for texts. `pooled` makes the mean over all patches of an image one sample, as in the paper.
"""

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from itrd_nlp import ITRDTrainer, ITRDTrainingArguments, build_student

torch.manual_seed(0)
labels = torch.arange(128) % 2
images = torch.randn(128, 1, 16, 16)
images[:, :, :8] += (2 * labels - 1)[:, None, None, None]  # the upper half is bright or dark
data = Dataset.from_dict({"pixel_values": images.numpy(), "labels": labels.numpy()}).with_format("torch")

config = ViTConfig(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=64,
    image_size=16,
    patch_size=4,
    num_channels=1,
    num_labels=2,
)
teacher = ViTForImageClassification(config)  # yours: ....from_pretrained("my-teacher")
common = {
    "per_device_train_batch_size": 32,
    "num_train_epochs": 8,
    "learning_rate": 2e-3,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
Trainer(teacher, TrainingArguments("out/vit_teacher", **common), train_dataset=data).train()

student = build_student(teacher, num_layers=2)
args = ITRDTrainingArguments("out/vit", corr_view="pooled", mi_view="pooled", **common)
trainer = ITRDTrainer(student, teacher, args, train_dataset=data)
trainer.train()
trainer.save_model()

loaded = ViTForImageClassification.from_pretrained("out/vit").eval()
with torch.no_grad():
    right = (loaded(images).logits.argmax(-1) == labels).float().mean()
print(f"a vision transformer of {loaded.config.num_hidden_layers} layers is right on {100 * right:.0f} % of the images")

"""Use the losses in a training loop of plain PyTorch, without a trainer and without transformers.

    python examples/losses_in_a_loop.py

Any network does that has features: `(n, d)`, a row a sample. Teacher and student may differ in width.
"""

import torch
from torch import nn

from itrd_nlp import CorrelationLoss, MutualInformationLoss
from itrd_nlp.losses import kd_loss

torch.manual_seed(0)
inputs = torch.randn(256, 20)
labels = (inputs[:, 0] * inputs[:, 1] > 0).long()  # no line separates these classes


class Network(nn.Module):
    """Features and logits of one hidden layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x)
        return features, self.head(features.relu())


teacher, student = Network(128), Network(16)
optimizer = torch.optim.AdamW(teacher.parameters(), 1e-3)
for _ in range(120):
    loss = nn.functional.cross_entropy(teacher(inputs)[1], labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# Both losses hold a linear layer from 16 to 128 features, so their parameters train along with the student.
correlation = CorrelationLoss(16, 128, alpha=1.5)  # the paper takes 1.5 where the architectures differ
information = MutualInformationLoss(16, 128)
modules = nn.ModuleList([student, correlation, information])
optimizer = torch.optim.AdamW(modules.parameters(), 1e-2)
for _ in range(120):
    with torch.no_grad():
        taught, teacher_logits = teacher(inputs)
    features, logits = student(inputs)
    loss = nn.functional.cross_entropy(logits, labels) + kd_loss(logits, teacher_logits, temperature=2.0)
    loss = loss + 0.2 * correlation(features, taught) + 0.1 * information(features, taught)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

agreement = (student(inputs)[1].argmax(-1) == teacher_logits.argmax(-1)).float().mean()
print(f"a student of 16 features agrees with its teacher of 128 on {100 * agreement:.0f} % of the rows")

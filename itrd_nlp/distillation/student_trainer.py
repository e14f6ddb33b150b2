"""`StudentTrainer`: the files and the columns of a student that trains together with its objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from itrd_nlp.distillation.arguments import ITRDTrainingArguments
from itrd_nlp.distillation.model import DistillationModel
from itrd_nlp.errors import UserError
from itrd_nlp.models.adaptor import Adaptor
from itrd_nlp.models.low_bits import low_bit_weights, rounded_state
from itrd_nlp.models.peft_adapters import has_adapters, load_adapters
from itrd_nlp.publish.hub_trainer import HubTrainer
from itrd_nlp.training.arguments import output_folder
from itrd_nlp.training.checkpoints import own_names

OBJECTIVE_WEIGHTS_NAME = "objective.safetensors"

LEARNED_WEIGHTS_NAME = "learned.safetensors"
"""The weights of a student of few bits as they learn. The weights of the student's own file are rounded."""


class StudentTrainer(HubTrainer):
    """A trainer of a `DistillationModel`, which saves and publishes the student alone.

    A checkpoint holds the weights of the objective in a file of their own. The file of a student of few bits has the
    rounded weights, so that an ordinary model computes the same, and the unrounded ones are in a third file.
    """

    args: ITRDTrainingArguments
    teacher_adaptor: Adaptor | None = None
    _has_loss = True  # of the student, in an evaluation

    @property
    def published_model(self) -> PreTrainedModel:
        """See `HubTrainer.published_model`. It is the student."""
        return self.student

    @property
    def learner(self) -> PreTrainedModel:
        """See `ResumingTrainer.learner`. It is the student, because the seed decides how projections start."""
        return self.student

    @property
    def student(self) -> PreTrainedModel:
        """The student, without the projections."""
        return self._distillation_model().student

    def _distillation_model(self) -> DistillationModel:
        """Return student and objective, without the wrapper of DDP or FSDP."""
        model: DistillationModel = self.accelerator.unwrap_model(self.model)
        return model

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            wrapped, self.model = self.model, self.student
            try:
                super()._set_signature_columns_if_needed()
            finally:
                self.model = wrapped

    def _reads_any_column(self) -> bool:
        """Return whether a function of the user reads batches. Nobody knows which columns it needs."""
        return bool(self._distillation_model().adaptor or self.teacher_adaptor)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        if self._reads_any_column():
            return dataset
        return super()._remove_unused_columns(dataset, description)

    def _get_collator_with_removed_columns(
        self, data_collator: Any, description: str | None = None
    ) -> Any:
        # the counterpart for rows of which transformers knows no columns: lists, streams, data sets of torch
        if self._reads_any_column():
            return data_collator
        return super()._get_collator_with_removed_columns(data_collator, description)

    def _get_num_items_in_batch(self, *_: Any) -> None:
        """Leave out a count for which processes would wait: `get_batch_samples` of `ITRDTrainer` has its own."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the student's own loss in an evaluation; NaN where it has none and is trained without it."""
        if self.args.w_task > 0:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs)
        loss = outputs.get("loss")
        self._has_loss = loss is not None
        if loss is None:
            loss = torch.full((), torch.nan, device=self.args.device)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """See `transformers.Trainer.prediction_step`. The loss is None where the student has none."""
        loss, logits, labels = super().prediction_step(*args, **kwargs)
        return loss if self._has_loss else None, logits, labels

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write the student and its tokenizer, and nothing of the objective."""
        if not self.args.should_save:
            return
        folder = Path(output_dir) if output_dir else output_folder(self.args)
        if state_dict is not None:
            prefix = "student."
            state_dict = {
                name.removeprefix(prefix): value
                for name, value in state_dict.items()
                if name.startswith(prefix)
            }
        if self._reads_few_bits():
            state_dict = rounded_state(self.student)
        with own_names(self.student):
            self.student.save_pretrained(folder, state_dict=state_dict)
        tokenizer = self.processing_class or getattr(self.data_collator, "tokenizer", None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_fsdp_enabled:
            return  # the base class has written the whole module, and so the objective
        objective = self._distillation_model().objective
        if self.args.should_save:
            # Not save_file: a loss of one's own may share tensors.
            safetensors.torch.save_model(objective, str(Path(output_dir) / OBJECTIVE_WEIGHTS_NAME))
        if self.args.should_save and self._reads_few_bits():
            learned = {
                name: layer.weight.detach().contiguous()
                for name, layer in low_bit_weights(self.student)
            }
            safetensors.torch.save_file(learned, str(Path(output_dir) / LEARNED_WEIGHTS_NAME))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(Path(resume_from_checkpoint), self._names_of_weights())

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
            return
        best = self._checked_best_checkpoint()
        # With save_only_model a checkpoint has only what is published.
        self._load_weights(
            best, [SAFE_WEIGHTS_NAME] if self.args.save_only_model else self._names_of_weights()
        )

    def _names_of_weights(self) -> list[str]:
        """Return the files of a checkpoint that hold weights, in the order in which they are loaded."""
        names = [SAFE_WEIGHTS_NAME, OBJECTIVE_WEIGHTS_NAME]
        return [*names, LEARNED_WEIGHTS_NAME] if self._reads_few_bits() else names

    def _reads_few_bits(self) -> bool:
        """Tell whether the student's layers read rounded weights (``weight_bits``)."""
        return next(low_bit_weights(self.student), None) is not None

    def _load_weights(self, checkpoint: Path, names: list[str]) -> None:
        model = self._distillation_model()
        modules = {
            SAFE_WEIGHTS_NAME: model.student,
            OBJECTIVE_WEIGHTS_NAME: model.objective,
            LEARNED_WEIGHTS_NAME: model.student,
        }
        for name in names:
            if name == SAFE_WEIGHTS_NAME and has_adapters(model.student):
                load_adapters(model.student, checkpoint)
                continue
            path = checkpoint / name
            if not path.is_file():
                raise UserError(
                    f"{path} does not exist, so {checkpoint} is no complete checkpoint of this trainer "
                    f"(they are folders named {PREFIX_CHECKPOINT_DIR}-STEP)."
                )
            # The CPU reads the file, and the values are copied to the device.
            strict = name != LEARNED_WEIGHTS_NAME  # it holds a part of the student
            safetensors.torch.load_model(modules[name], path, strict=strict)

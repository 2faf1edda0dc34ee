"""A small training under the Trainer of Transformers, which a test runs, stops and resumes."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from ridgepole.integrations.transformers import RidgepoleCallback


class Signal(TrainerCallback):
    def __init__(self, options):
        self.options, self.done = options, False

    def send(self, place):
        if not os.environ.get("RIDGEPOLE_RESUME") and not self.done and self.options.get("at") == place:
            self.done = True
            os.kill(os.getpid(), getattr(signal, self.options["signal"]))

    def on_step_begin(self, args, state, control, **kwargs):
        self.send(f"step {state.global_step}")

    def on_prediction_step(self, args, state, control, **kwargs):
        self.send(f"evaluation {state.global_step}")


def main(options):
    transformers.set_seed(3)
    config = BertConfig(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    words = torch.arange(32 * 4).reshape(32, 4) % 16
    data = [{"input_ids": row, "labels": row.sum() % 2} for row in words]
    args = TrainingArguments(
        "checkpoints", max_steps=16, per_device_train_batch_size=4, logging_steps=1, save_steps=5,
        eval_strategy="steps", eval_steps=4, use_cpu=True, report_to="none", disable_tqdm=True, seed=3,
        dataloader_pin_memory=False, learning_rate=0.01,
    )  # fmt: skip
    callback = RidgepoleCallback()
    trainer = Trainer(
        BertForSequenceClassification(config), args, train_dataset=data, eval_dataset=data[:8],
        callbacks=[Signal(options), callback],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=None if "forgotten" in options else callback.checkpoint(args))
    Path("history.json").write_text(json.dumps(trainer.state.log_history))
    Path("weights.txt").write_text(str([value.tolist() for value in trainer.model.state_dict().values()]))


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))

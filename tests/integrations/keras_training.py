"""A small training under Keras, which tests run, stop, kill and resume; see `lightning_training.py`."""

import os
import signal
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

from ridgepole.integrations.keras import RidgepoleCallback


class Signal(keras.callbacks.Callback):
    def __init__(self, options):
        super().__init__()
        self.options, self.epoch = options, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not os.environ.get("RIDGEPOLE_RESUME") and self.options.get("at") == f"{self.epoch}:{batch}":
            os.kill(os.getpid(), getattr(signal, self.options["signal"]))


def main(options):
    keras.utils.set_random_seed(3)
    layers = [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer="adam", loss="mse")
    x = np.linspace(0, 1, 160, dtype="float32").reshape(40, 4)
    csv = keras.callbacks.CSVLogger("log.csv", append=True)
    model.fit(
        x, x.sum(1, keepdims=True), batch_size=4, epochs=4, validation_split=0.2, verbose=0,
        callbacks=[Signal(options), RidgepoleCallback(), csv],
    )  # fmt: skip
    Path("weights-end.txt").write_text(str([value.tolist() for value in model.get_weights()]))


if __name__ == "__main__":
    main(dict(word.split("=", 1) for word in sys.argv[1:]))

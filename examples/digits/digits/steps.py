"""The processes of the pipeline: train, evaluate, report. Ridgepole fills their parameters by type."""

from pydantic import PositiveInt

from digits.data import Data
from digits.figures import draw_learning_curves, draw_misread_digits
from digits.network import Network
from ridgepole import PipelineProcess, process, read_metrics, track
from ridgepole.metrics import build_confusion_matrix_figure, validation_accuracy
from ridgepole.permanence import RunContext
from ridgepole.permanences import BaseLoggerManager


class Train(PipelineProcess):
    """Train the network on every image `epochs` times, and validate it after each epoch."""

    def __init__(self, network: Network, data: Data, logger: BaseLoggerManager, epochs: PositiveInt = 30) -> None:
        self.network = network
        self.data = data
        self.logger = logger
        self.epochs = epochs

    def execute(self) -> None:
        """Train the network."""
        batches = self.data.batches(self.epochs)
        bar = track(batches, "train", tick=True)
        for batch in bar:
            loss = self.network.learn(batch)
            self.logger.log_metrics({"loss": loss})
            bar.set(loss=loss)
            if batches.epoch_ends:
                accuracy = self.network.accuracy(self.data.parts["validation"])
                self.logger.log_metrics(validation_accuracy(accuracy))
                bar.set(validation=accuracy)


@process
def evaluate(network: Network, data: Data, logger: BaseLoggerManager) -> None:
    """Measure the test accuracy, and which digits are confused."""
    test = data.parts["test"]
    logger.log_metrics({"test/accuracy": network.accuracy(test)})
    read = network.read(test.images).argmax(dim=1)
    figure = build_confusion_matrix_figure(
        test.labels, read, labels=range(10), title="Confusion matrix of the test digits"
    )
    logger.log_figure("confusion matrix", figure)


@process
def report(controller: RunContext, network: Network, data: Data, logger: BaseLoggerManager) -> None:
    """Draw the course of the training, and the digits that are still misread."""
    logger.log_figure("learning curves", draw_learning_curves(read_metrics(controller.run_dir)))
    test = data.parts["test"]
    logger.log_figure("misread digits", draw_misread_digits(test, network.read(test.images)))

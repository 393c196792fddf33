"""What upstream's trainer saves of its configuration beside the model.

Of its groups only ``model``, ``encoder``, ``decoder`` and ``task`` are parts of what is computed;
``dataset`` gives them sizes, which the tensors tell, and the number of answers. The others are
named here one by one, so that a group that nobody has heard of is refused.
"""

from __future__ import annotations

from math import sqrt

from s4edge.checkpoints.facts import Facts
from s4edge.errors import S4EdgeError

# Groups of the training itself, of its logging and of the machine.
_TRAINING = (
    "trainer", "loader", "optimizer", "scheduler", "callbacks", "wandb", "tolerance", "hydra",
    "plugins", "lr_scheduler",
)  # fmt: skip
# Tasks that are a loss and metrics and nothing more. The adaptive softmax of "adaptivelm" has
# tensors of its own, by which it is told.
_LOSSES = (None, "base", "imagenet", "video", "adaptivelm")
# Upstream's data sets that ask for one answer a sequence, and for one to each sample.
_ONE_ANSWER = (
    "mnist", "cifar", "cifar100", "cifar-c", "listops", "imdb", "pathfinder", "aan", "adding",
    "reconstruct", "sc", "sc09cls", "imu", "eegseizure", "ptbxl", "imagenet", "hmdb51",
)  # fmt: skip
_EACH_SAMPLE = (
    "delay", "mackey", "qautoaudio", "sc09", "maestro", "ljspeech", "wt2", "wt103", "ptb",
    "enwik8", "text8", "lm1b", "cifargen", "cifargenf",
)  # fmt: skip


def is_trainers(facts: Facts) -> bool:
    """Whether a configuration is the trainer's, with the backbone's under ``model``."""
    return "model" in facts.saved


def look_beside_the_model(facts: Facts) -> None:
    """Tick off the groups that change nothing, and see to those that might.

    Raises:
        S4EdgeError: something is configured there that changes what the model computes.
    """
    facts.ignore("_name_", *_TRAINING)
    dataset = facts.part("dataset")
    dataset.ignore(*dataset.saved)
    train = facts.part("train")
    # Calls a method of each module once they are built.
    train.part("post_init_hook").only("_name_", None)
    train.ignore(*train.saved)


def read_task(facts: Facts) -> tuple[float | None, bool]:
    """What the task adds to the model.

    Returns:
        The factor behind the embedding that the task brings, None if it brings none; and whether
        it brings a linear decoder.

    Raises:
        S4EdgeError: it adds what cannot be read.
    """
    task = facts.part("task")
    word = task.get("_name_") if task.says("_name_") else None
    if word in _LOSSES:
        task.ignore(*task.saved)
        return None, False
    if word == "forecasting" and task.says("norm") and task.get("norm") in (None, "none"):
        task.ignore(*task.saved)
        return None, False
    if word == "forecasting":
        raise S4EdgeError(
            f"{facts.path}: task=forecasting cannot be read: it divides each sequence by a size of "
            "its own (task.norm); with task.norm=null it can"
        )
    if word != "lm":
        raise S4EdgeError(
            f"{facts.path}: task={word} cannot be read: what it adds to the model is unknown; "
            "known: base, imagenet, video, adaptivelm, lm, forecasting"
        )
    # Tied weights are stored twice.
    task.ignore("tied", "loss", "metrics", "torchmetrics", "init")
    rescale = task.get("rescale", True, allowed=(True, False)) if task.says("rescale") else True
    task.ignore("rescale")
    width = facts.part("model", dotted=False).get("d_model", why="the embedding's width is unknown")
    return sqrt(width) if rescale else 1.0, True


def answers_of_data(facts: Facts) -> tuple[int | None] | None:
    """``l_output`` of one of upstream's data sets, in a tuple; None where it is not known."""
    dataset = facts.part("dataset")
    name = dataset.saved.get("_name_")
    if name in _ONE_ANSWER or (name == "bidmc" and not dataset.saved.get("prediction")):
        return (0,)
    return (None,) if name in _EACH_SAMPLE else None

"""What upstream's trainer saves of its configuration beside the model.

Of its groups only ``model``, ``encoder``, ``decoder`` and ``task`` are parts of what is computed;
``dataset`` gives them sizes, which the tensors tell, and the length of the output. The others are
named here one by one, so that a group that nobody has heard of is refused.
"""

from __future__ import annotations

from s4edge.checkpoints.facts import Facts

# Groups of the training itself, of its logging and of the machine.
_TRAINING = (
    "trainer", "loader", "optimizer", "scheduler", "callbacks", "wandb", "tolerance", "hydra",
    "plugins", "lr_scheduler",
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
    task = facts.part("task")
    task.only("_name_", None, "base", "adaptivelm", "lm", "imagenet", "video", "forecasting")
    task.ignore(*task.saved)

"""Named starting points for the configuration of training."""

from bccdist.configuration import ComputeConfig, TrainConfig
from bccdist.errors import ConfigurationError

PRESETS: dict[str, TrainConfig] = {
    "paper": TrainConfig(
        compute=ComputeConfig(precision="float32", channels_last="off", compile="off", fused_adam=False)
    ),
    "quick": TrainConfig(
        width=16,
        epochs=6,
        global_batch=16,
        micro_batch=8,
        max_steps=30,
        learning_rate=2e-3,
        lr_factor=0.5,
        lr_every_epochs=2,
        num_workers=1,
    ),
}
"""Where a launcher's flags start from with --preset; without one, from the paper's method in the fastest arithmetic.

paper: the method to the letter, in plain float32. quick: a quarter of the width and a few short epochs, for trials.
"""


def preset_named(name: str) -> TrainConfig:
    """A preset.

    Raises:
        ConfigurationError: there is none of this name; the message lists those that there are.
    """
    if name not in PRESETS:
        raise ConfigurationError(f"preset is {name!r}, expected one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]

"""One rank of a training run: all that it holds, and how it is set up from a study's folder."""

import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

import bccdist
from bccdist.configuration import Setting, TrainConfig, claim_config, read_claimed
from bccdist.errors import ConfigurationError, DistributedError
from bccdist.events import EventLog
from bccdist.files import write_json
from bccdist.installed import imported_code
from bccdist.log import LOG
from bccdist.networks.pretrained import encoder_weights_sha256, load_encoder_weights
from bccdist.networks.starting import Start, read_start
from bccdist.networks.unet import DeeplySupervisedUNet
from bccdist.networks.weights import load_network
from bccdist.parts import Part
from bccdist.paths import RunPaths
from bccdist.random_streams import STREAMS_VERSION
from bccdist.ranks import Ranks
from bccdist.shard_set.epoch_plan import EpochPlan, MicroBatches, plan_epoch
from bccdist.shard_set.index import PartPatches, ShardSet
from bccdist.shard_set.reader import PatchReader
from bccdist.training.checkpoints import Position, State, load_state, rank_state, save_state
from bccdist.training.compute import (
    Compute,
    compile_parallel,
    make_optimizer,
    prepare_network,
)
from bccdist.training.distributed import barrier, from_all_ranks, in_parallel
from bccdist.training.holder import Holder, claim, refuse_lost
from bccdist.training.reporting.board import Board
from bccdist.training.reporting.metrics import MetricsRow
from bccdist.training.samples import Draw, Patches, training_draws

LEFT_OUT = "left_out"
"""Key of a run's configuration: the slides of Training that it does not see, where there are any."""


@dataclass(kw_only=True)
class Run:
    """All that one rank holds while it trains."""

    config: TrainConfig
    config_digest: str
    paths: RunPaths
    ranks: Ranks
    compute: Compute
    shard_set: ShardSet
    training: PartPatches
    validation: PartPatches
    reader: PatchReader
    network: DeeplySupervisedUNet
    parallel: nn.Module
    """The network, wrapped in DDP where there are several ranks."""
    optimizer: torch.optim.Optimizer
    events: EventLog
    micro_batches: MicroBatches
    """How each step is cut; of a run that goes on, as it was cut when it began."""
    start: Start | None
    """The network that the run started from, if not from chance."""
    begins_with: str | None
    """What a fresh run has of other weights, in a sentence; None where it has none, or goes on from its state."""
    epochs_before: int | None
    """Epochs that the run was asked for before this start, if they were fewer; the first rank knows."""
    holder: Holder | None
    """This start's name in the run's folder; the first rank has it."""
    metrics: list[MetricsRow] = field(default_factory=list)
    """Rows of metrics.parquet for the epochs that are done."""
    board: Board | None = None
    """Curves for TensorBoard; the first rank has them once it knows where they begin."""

    def close(self) -> None:
        """Close what is written to."""
        self.events.close()
        if self.board is not None:
            self.board.close()

    def say(self, text: str) -> None:
        """Tell a line of progress, once for all ranks."""
        if self.ranks.is_first:
            LOG.info(text)

    @property
    def device(self) -> torch.device:
        """Where this rank's network is."""
        return self.compute.device

    @property
    def augments_on_device(self) -> bool:
        """Whether patches are changed where the network is, not where they are read."""
        place = self.config.augment.place
        return place == "device" or (place == "auto" and self.device.type == "cuda")

    def plan(self, epoch: int) -> EpochPlan:
        """What an epoch draws among the training patches, step by step."""
        config = self.config
        return plan_epoch(
            self.training.members,
            config.balance,
            seed=config.seed,
            epoch=epoch,
            global_batch=config.global_batch,
            max_steps=config.max_steps,
        )

    def patches(self, epoch: int) -> Patches:
        """Training patches as an epoch sees them."""
        config = self.config
        return Patches(
            reader=self.reader,
            augment_config=config.augment,
            augment_here=not self.augments_on_device,
            seed=config.seed,
            epoch=epoch,
        )

    @property
    def parts(self) -> list[range]:
        """This rank's micro-batches of a step, as places of it."""
        return self.micro_batches.of_rank(self.ranks.rank, world_size=self.ranks.world_size)

    def training_draws(self, plan: EpochPlan, position: Position) -> Iterator[list[Draw]]:
        """This rank's micro-batches of an epoch, from a position on."""
        return training_draws(plan, self.training.rows, self.parts, first_step=position.step)

    def restore(self) -> State:
        """Go back to the newest saved state, if there is one.

        Raises:
            DistributedError: ranks read different states, because a start that has lost the folder saved one more.
        """
        state = load_state(
            self.paths.last,
            network=self.network,
            optimizer=self.optimizer,
            config_digest=self.config_digest,
            device=self.device,
            ranks=self.ranks,
        )
        places = [(each.epoch, each.step) for each in from_all_ranks(state.position)]
        if len(set(places)) > 1:
            raise DistributedError(
                f"{self.paths.last}: it was replaced while the ranks read it, so they are at different places (epoch, "
                f"step): {places}; submit the run again"
            )
        self.metrics = state.metrics
        self.micro_batches = self._micro_batches_since(state)
        return state

    def _micro_batches_since(self, state: State) -> MicroBatches:
        """As it was when the run began, for the sake of batch normalisation, as far as these ranks can share it."""
        if state.world_size is None or self.compute.sync_batch_norm:
            return self.micro_batches
        num = state.num_micro_batches or micro_batches_of(self.config, state.world_size).num
        return replace(self.micro_batches, num=num) if num >= self.ranks.world_size else self.micro_batches

    def refuse_lost(self) -> None:
        """Stop all ranks if a newer start of the job holds the run's folder; called on all of them before a write.

        Raises:
            DistributedError: it does.
        """
        refuse_lost(self.paths.holder, self.holder)

    def save(self, position: Position) -> None:
        """Write the state of all ranks; the first one writes.

        Raises:
            DistributedError: a newer start of the job holds the run's folder; nothing was written.
        """
        self.refuse_lost()
        states = from_all_ranks(rank_state(self.network))
        if self.ranks.is_first:
            save_state(
                self.paths.last,
                network=self.network,
                optimizer=self.optimizer,
                position=position,
                metrics=self.metrics,
                config_digest=self.config_digest,
                rank_states=states,
                num_micro_batches=self.micro_batches.num,
            )
        if self.board is not None:
            self.board.flush()
        barrier()


def prepare_run(
    paths: RunPaths,
    setting: Setting,
    config: TrainConfig,
    ranks: Ranks,
    compute: Compute,
    shard_set: ShardSet,
    *,
    left_out: Collection[str] = (),
) -> Run:
    """Claim the run's folder, and build network and optimiser as they are before the first step.

    Slides that are `left_out` of Training stand in the run's configuration: with others it is another run.
    """
    training = shard_set.part(Part.TRAINING, without=left_out)
    validation = shard_set.part(Part.VALIDATION_1)
    torch.manual_seed(config.seed)
    network = DeeplySupervisedUNet(
        setting, width=config.width, merge_weight_std=config.merge_weight_std, encoder=config.encoder
    )
    # Before the folder is claimed, so that a file that does not fit leaves it to the one that does.
    start = _find_start(setting, config, paths)
    begins_with = _load_others(network, start, config, paths)
    if config.freeze_encoder:
        network.freeze_encoder()
    context: dict[str, Any] = {
        "setting": setting,
        "shard_set": shard_set.digest,
        "random_streams": STREAMS_VERSION,
        **_weights_context(config, paths),
        **({} if start is None else {"start": asdict(start)}),
        **({LEFT_OUT: sorted(left_out)} if left_out else {}),
    }
    epochs_before = _fewer_epochs(paths, config) if ranks.is_first else None
    digest, holder = _claim(paths, ranks, config, compute, context)
    network = prepare_network(network.to(compute.device), compute)
    parallel = in_parallel(network, ranks)
    compile_parallel(parallel, compute)
    return Run(
        config=config,
        config_digest=digest,
        paths=paths,
        ranks=ranks,
        compute=compute,
        shard_set=shard_set,
        training=training,
        validation=validation,
        reader=PatchReader(shard_set),
        network=network,
        parallel=parallel,
        optimizer=make_optimizer(network, config.learning_rate, compute),
        events=EventLog(paths.events(ranks.rank)),
        micro_batches=micro_batches_of(config, ranks.world_size),
        start=start,
        begins_with=begins_with,
        epochs_before=epochs_before,
        holder=holder,
    )


def micro_batches_of(config: TrainConfig, world_size: int) -> MicroBatches:
    """How the steps of a run are cut that begins with so many ranks.

    Raises:
        ConfigurationError: batch statistics are to be taken over all ranks, but these do not have equally many parts.
    """
    cut = MicroBatches.of_run(global_batch=config.global_batch, largest=config.micro_batch, world_size=world_size)
    if config.compute.sync_batch_norm and cut.num % world_size:
        raise ConfigurationError(
            f"compute.sync_batch_norm is True, and the {config.global_batch} patches of a step make {cut.num} parts "
            f"for {world_size} ranks, expected as many for each: raise micro_batch, take another number of ranks, or "
            "set it to False"
        )
    return cut


def _find_start(setting: Setting, config: TrainConfig, paths: RunPaths) -> Start | None:
    """The network that a run starts from; of one that goes on, what its folder says of it if the file has gone since.

    Raises:
        CheckpointError: the file is missing, no weights of this product, or of another architecture.
    """
    path = config.start_from
    if path is None:
        return None
    if not path.exists() and paths.last.exists():
        there = read_claimed(paths.config)
        if there.get("start_from") == str(path):
            LOG.warning(f"start_from: {path} is not there any more; the run goes on from its own state")
            return Start(**there["start"])
    return read_start(path, setting=setting, width=config.width, encoder=config.encoder)


def _load_others(
    network: DeeplySupervisedUNet, start: Start | None, config: TrainConfig, paths: RunPaths
) -> str | None:
    """Give a fresh run the weights that it starts from, if it has some; a run with a state has them in there."""
    if paths.last.exists():
        return None
    if config.encoder_weights is not None:
        return load_encoder_weights(config.encoder_weights, network)
    if config.start_from is None or start is None:
        return None
    trained, _ = load_network(config.start_from)
    network.load_state_dict(trained.state_dict())
    return f"the network starts from the weights in {config.start_from} ({start.lineage}), with a fresh optimiser"


def _fewer_epochs(paths: RunPaths, config: TrainConfig) -> int | None:
    """How many epochs the run has been asked for, if more are asked for now; before the folder is claimed."""
    if not paths.config.exists():
        return None
    before: int = read_claimed(paths.config)["epochs"]
    return before if before < config.epochs else None


def _weights_context(config: TrainConfig, paths: RunPaths) -> dict[str, str]:
    """The content of the encoder weights, not their path, names the run; a run that goes on does without the file."""
    if config.encoder_weights is None:
        return {}
    name = "encoder_weights_sha256"
    if not config.encoder_weights.exists() and paths.last.exists() and name in (there := read_claimed(paths.config)):
        LOG.warning(f"encoder_weights: {config.encoder_weights} is not there any more; the run goes on without it")
        return {name: there[name]}
    return {name: encoder_weights_sha256(config.encoder_weights)}


def _claim(
    paths: RunPaths, ranks: Ranks, config: TrainConfig, compute: Compute, context: Mapping[str, Any]
) -> tuple[str, Holder | None]:
    """The run's digest; the first rank writes the folder's configuration before the others check it.

    It makes this start the holder, too, once the configuration is the right one, and before any rank reads the state.
    """
    holder = None
    if ranks.is_first:
        claim_config(paths.config, config, **context)
        holder = claim(paths.holder, ranks)
        write_json(paths.environment, _environment(ranks, compute))
    barrier()
    return claim_config(paths.config, config, **context), holder


def _environment(ranks: Ranks, compute: Compute) -> dict[str, str | int]:
    return {
        "bccdist": bccdist.__version__,
        "code": imported_code() or "not recorded",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.node(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "arithmetic": str(compute),
        "num_threads": torch.get_num_threads(),
        "world_size": ranks.world_size,
    }

"""Sizes of the network, building, and checkpoints that rebuild their own network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
import re
from typing import Union

from safetensors import safe_open, SafetensorError
from safetensors.torch import save as serialize
from torch import Tensor
from torch.nn import Module

from svp_ros.config import make_config
from svp_ros.files import replace_file, sha256_of
from svp_ros.model.detection import DetectionHead
from svp_ros.model.heads import DisparityHead, ReconstructionHead, RowMatching
from svp_ros.model.network import DisparityNetwork, ReconstructionNetwork, StereoBackbone

FORMAT = 'svp_ros 1'
RECONSTRUCTION = 'reconstruction'  # note `kind` of a pre-trained network
CARD_SHA256 = re.compile('SHA-256 `([0-9a-f]{64})`')


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects and its mean size, metres.

    Raises:
        ValueError: If a length is not positive or the name is empty.
    """

    name: str
    length: float
    height: float
    width: float

    def __post_init__(self):
        if not self.name or min(self.size) <= 0:
            raise ValueError('a class needs a name and a positive length, height and width, got '
                             f'{self}')

    @property
    def size(self) -> tuple[float, float, float]:
        """Length, height and width, metres."""
        return self.length, self.height, self.width


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture; all lengths are channels or layers unless said otherwise.

    Args:
        channels: backbone widths at 1/2, 1/4, 1/8 and 1/16.
        blocks: residual blocks at those sizes.
        heads: attention heads on the 1/16 tokens.
        encoder_depth: Swin blocks applied to either eye.
        attention_depth: disparity attention layers.
        decoder_depth: Swin blocks on the left tokens.
        cost_channels: width of the matching stage at 1/8.
        match_groups: channel groups compared separately at 1/8.
        refine_channels: width of the refinement at 1/4.
        looks: corrections at 1/4 after the first one; they share their weights, so that a
            checkpoint may be trained on with another number.
        max_disparity: largest disparity that can be matched, pixels of the network's input.
        classes: objects that the detection head finds; none means that there is no such head.
    """

    channels: tuple[int, ...] = (16, 24, 48, 112)
    blocks: tuple[int, ...] = (0, 1, 1, 1)
    heads: int = 4
    encoder_depth: int = 2
    attention_depth: int = 2
    decoder_depth: int = 2
    cost_channels: int = 48
    match_groups: int = 2
    refine_channels: int = 32
    looks: int = 1
    max_disparity: int = 256
    classes: tuple[ObjectClass, ...] = ()

    def __post_init__(self):
        if len(self.channels) != 4 or len(self.blocks) != 4:
            raise ValueError('channels and blocks need 4 entries, for 1/2, 1/4, 1/8 and 1/16, '
                             f'got {self.channels} and {self.blocks}')
        if self.channels[3] % self.heads:
            raise ValueError(f'channels[3] = {self.channels[3]} is not a multiple of heads = '
                             f'{self.heads}')
        if self.channels[2] % self.match_groups:
            raise ValueError(f'channels[2] = {self.channels[2]} is not a multiple of match_groups '
                             f'= {self.match_groups}')
        if self.looks < 1:
            raise ValueError(f'looks must be at least 1, got {self.looks}')
        if self.max_disparity % 16 or self.max_disparity <= 0:
            raise ValueError('max_disparity must be a positive multiple of 16, got '
                             f'{self.max_disparity}')
        if len(set(self.class_names)) < len(self.classes):
            raise ValueError(f'classes must differ, got {", ".join(self.class_names)}')

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the heat-maps."""
        return tuple(item.name for item in self.classes)


SIZES = {
    'nano': NetworkConfig(),
    'small': NetworkConfig(
        channels=(24, 48, 96, 192), blocks=(1, 1, 2, 2), heads=6,
        cost_channels=96, match_groups=4, refine_channels=48, looks=2),
    'base': NetworkConfig(
        channels=(32, 64, 128, 256), blocks=(1, 1, 2, 2), heads=8,
        encoder_depth=3, attention_depth=3, decoder_depth=3,
        cost_channels=128, match_groups=4, refine_channels=64, looks=2),
}


def get_size(name: str) -> NetworkConfig:
    """Architecture of a size by name.

    Raises:
        ValueError: If there is no such size.
    """
    if name not in SIZES:
        raise ValueError(f'no network size "{name}"; there are {", ".join(SIZES)}')
    return SIZES[name]


def build_backbone(config: NetworkConfig) -> StereoBackbone:
    """Backbone with fresh weights."""
    return StereoBackbone(config.channels, config.blocks, config.heads, config.encoder_depth,
                          config.attention_depth, config.decoder_depth)


def build_head(config: NetworkConfig) -> DisparityHead:
    """Disparity head with fresh weights."""
    matching = RowMatching(config.channels, config.cost_channels, config.match_groups,
                           config.max_disparity)
    return DisparityHead(matching, config.channels, config.cost_channels, config.refine_channels,
                         config.looks)


def build_model(config: NetworkConfig) -> DisparityNetwork:
    """Disparity network with fresh weights, with a detection head if there are classes."""
    backbone = build_backbone(config)
    backbone.hidden_token.requires_grad_(False)  # only pre-training hides patches
    head = build_head(config)
    if not config.classes:
        return DisparityNetwork(backbone, head)
    return DisparityNetwork(backbone, head, DetectionHead(
        len(config.classes), config.channels, config.cost_channels, config.refine_channels))


def build_reconstruction(config: NetworkConfig) -> ReconstructionNetwork:
    """Masked reconstruction network with fresh weights."""
    return ReconstructionNetwork(build_backbone(config), build_head(config), ReconstructionHead(
        config.channels, config.cost_channels, config.refine_channels))


def save_checkpoint(path: Union[str, Path], state: Mapping[str, Tensor], config: NetworkConfig,
                    half: bool = True, **notes: str) -> None:
    """Write one .safetensors file that rebuilds its own network; replaces `path` at once.

    Args:
        path: file to write.
        state: weights by name, a state_dict.
        config: architecture, stored in the metadata.
        half: store floating-point weights as float16.
        notes: more metadata, for example steps='3600'.

    Raises:
        OSError: If the file cannot be written; what was at `path` is still there.
    """
    tensors = {name: (value.half() if half and value.is_floating_point() else value)
               .detach().cpu().contiguous() for name, value in state.items()}
    metadata = {'format': FORMAT, 'network': json.dumps(asdict(config)), **notes}
    replace_file(Path(path), serialize(tensors, metadata))


def read_checkpoint(path: Union[str, Path]) -> tuple[dict[str, Tensor], NetworkConfig, dict]:
    """Read weights, architecture and notes of a checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not one of our checkpoints, or not the one that its card describes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint {path}')
    _check_card(path)
    try:
        with safe_open(path, 'pt') as file:
            notes = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f'{path} is not a readable .safetensors file: {error}') from error
    if notes.pop('format', None) != FORMAT:
        raise ValueError(f'{path} was not written by svp_ros: its metadata lacks '
                         f'"format: {FORMAT}"')
    values = json.loads(notes.pop('network'))
    config = make_config(NetworkConfig, values, str(path))
    return {name: value.float() if value.is_floating_point() else value
            for name, value in state.items()}, config, notes


def _check_card(path: Path) -> None:
    """Compare the file with the SHA-256 in its card, the .md file beside it, if there is one."""
    card = path.with_suffix('.md')
    named = CARD_SHA256.search(card.read_text()) if card.is_file() else None
    if named and named[1] != (found := sha256_of(path)):
        raise ValueError(f'{path} is damaged or was replaced: its SHA-256 is {found}, its card '
                         f'{card.name} says {named[1]}; restore the file, or correct the card')


def load_start(model: Module, config: NetworkConfig, path: Union[str, Path]) -> tuple[int, dict]:
    """Copy into `model` what a checkpoint of the same size shares with it.

    That is everything if both are networks of one kind; between masked reconstruction and
    disparity it is the backbone and the disparity head. A detection head of other classes stays
    as it is.

    Returns:
        Number of tensors that were copied, and the notes of the checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not one of our checkpoints or a network of another size.
    """
    state, found, notes = read_checkpoint(path)
    if replace(found, classes=config.classes, looks=config.looks) != config:
        other = {key: value for key, value in asdict(found).items()
                 if key not in ('classes', 'looks') and value != getattr(config, key)}
        raise ValueError(f'{path} is a network of another size; it has {other}')
    shared = {name: value for name, value in state.items() if name in model.state_dict()
              and (found.class_names == config.class_names or not name.startswith('detection.'))}
    model.load_state_dict(shared, strict=False)
    return len(shared), notes


def is_pretrained(path: Union[str, Path]) -> bool:
    """Whether a checkpoint is of masked pre-training; errors as of `read_checkpoint`."""
    return read_checkpoint(path)[2].get('kind') == RECONSTRUCTION


def load_checkpoint(path: Union[str, Path]) -> tuple[DisparityNetwork, NetworkConfig, dict]:
    """Rebuild a disparity network from its checkpoint, in eval mode and float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of a disparity network.
    """
    state, config, notes = read_checkpoint(path)
    if notes.get('kind') == RECONSTRUCTION:
        raise ValueError(f'{path} is a pre-trained network, its confidence is untrained; '
                         'fine-tune it first: svp finetune disparity with "start" in its config')
    model = build_model(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f'{path} holds no disparity network of its own configuration: '
                         f'{str(error).splitlines()[1].strip()}') from error
    return model.eval(), config, notes


def load_reconstruction(path: Union[str, Path]) -> tuple[ReconstructionNetwork, NetworkConfig]:
    """Rebuild a pre-trained network from its checkpoint, in eval mode and float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint of masked pre-training.
    """
    state, config, notes = read_checkpoint(path)
    if notes.get('kind') != RECONSTRUCTION:
        raise ValueError(f'{path} is no pre-trained network; svp pretrain writes them')
    model = build_reconstruction(config)
    model.load_state_dict(state)
    return model.eval(), config

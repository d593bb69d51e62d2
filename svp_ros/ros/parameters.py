"""The node's parameters: one table with default, range, unit and description.

`NodeSettings` is the table and the checked values at once. `declare` turns it into declared ROS
parameters; a change builds a new `NodeSettings`, so a refused value leaves no trace.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Optional

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

# When a parameter may change, and what happens then.
LIVE = 'live'  # at any time, counts from the next pair on
RELOAD = 'reload'  # at any time, another network is loaded while the old one runs
INACTIVE = 'inactive'  # unless the node is active, counts from the next activation on
START = 'start'  # never


def _parameter(default: Any, description: str, minimum: Optional[float] = None,
               maximum: Optional[float] = None, choices: tuple[str, ...] = (),
               change: str = INACTIVE) -> Any:
    return field(default=default, metadata={
        'description': description, 'minimum': minimum, 'maximum': maximum,
        'choices': choices, 'change': change})


@dataclass(frozen=True)
class NodeSettings:
    """Every parameter of stereo_node, and when each may change.

    Raises:
        ValueError: If a value is outside its range or choices; the text says which would work.
    """

    autostart: bool = _parameter(True, 'configure and activate the node when it starts; otherwise '
                                 'ros2 lifecycle set does it', change=START)
    model: str = _parameter('nano', 'name in models/ or path of a .safetensors checkpoint',
                            change=RELOAD)
    device: str = _parameter('auto', 'where the network runs: cpu, cuda, cuda:N, or auto, which '
                             'takes CUDA when there is one', change=RELOAD)
    engine: str = _parameter(
        'torch', 'what runs the network; auto times those that are installed and takes the '
        'fastest', choices=('torch', 'onnx', 'openvino', 'tensorrt', 'auto'), change=RELOAD)
    precision: str = _parameter(
        'fp32', 'of the network, where the engine has it; int8 needs openvino and minutes at the '
        'first start', choices=('fp32', 'bf16', 'fp16', 'int8'), change=RELOAD)
    network_height: int = _parameter(480, 'height of the images the network sees, pixels; '
                                     'multiples of 32 waste nothing', 64, 4096, change=RELOAD)
    network_width: int = _parameter(640, 'width of the images the network sees, pixels; '
                                    'multiples of 32 waste nothing', 64, 4096, change=RELOAD)
    num_threads: int = _parameter(0, 'CPU threads of the network, those of all nodes in a '
                                  'process; 0 leaves it to PyTorch', 0, 256)
    rectify: str = _parameter(
        'auto', 'rectify the images in the node; auto does it when CameraInfo has distortion and '
        'the name of the image topic does not say "rect"', choices=('auto', 'on', 'off'))
    baseline_override: float = _parameter(
        0.0, 'baseline to use instead of CameraInfo, metres; 0 takes CameraInfo', 0.0, 5.0)
    image_transport: str = _parameter(
        'raw', 'raw takes sensor_msgs/Image, compressed takes JPEG and PNG on '
        '<image topic>/compressed', choices=('raw', 'compressed'))
    approximate_sync: bool = _parameter(
        False, 'pair images whose stamps differ by up to approximate_sync_tolerance', change=LIVE)
    approximate_sync_tolerance: float = _parameter(
        0.01, 'largest stamp difference of a pair, seconds; keep it below half a frame period',
        0.0, 1.0, change=LIVE)
    queue_size: int = _parameter(
        5, 'images kept per side while waiting for their partner', 1, 1000)
    output_resolution: str = _parameter(
        'input', 'size of all outputs: that of the input images or of the network',
        choices=('input', 'network'))
    min_depth: float = _parameter(0.3, 'nearest depth that is reported, metres', 0.001, 1000.0,
                                  change=LIVE)
    max_depth: float = _parameter(100.0, 'farthest depth that is reported, metres', 0.01, 10000.0,
                                  change=LIVE)
    confidence_threshold: float = _parameter(
        0.0, 'pixels with a lower confidence are invalid, 0 to 1', 0.0, 1.0, change=LIVE)
    score_threshold: float = _parameter(
        0.15, 'boxes with a lower score are left out, 0 to 1', 0.0, 1.0, change=LIVE)
    classes: tuple = _parameter(
        ('all',), 'classes of objects to report, as the model names them, or all', change=LIVE)
    max_detections: int = _parameter(50, 'boxes per pair, those with the best scores', 0, 64,
                                     change=LIVE)
    target_rate: float = _parameter(
        0.0, 'pairs to process per second, hertz; 0 takes as many as come and can be managed',
        0.0, 1000.0, change=LIVE)
    max_processing_time_ms: float = _parameter(
        200.0, 'diagnostics warn when a frame takes longer, milliseconds', 1.0, 60000.0,
        change=LIVE)

    def __post_init__(self):
        object.__setattr__(self, 'classes', tuple(self.classes))
        for entry in fields(self):
            value, rule = getattr(self, entry.name), entry.metadata
            if rule['choices'] and value not in rule['choices']:
                raise ValueError(
                    f'{entry.name} must be one of {", ".join(rule["choices"])}, got "{value}"')
            low, high = rule['minimum'], rule['maximum']
            if low is not None and not low <= value <= high:
                raise ValueError(f'{entry.name} must be between {low} and {high}, got {value}')
        if self.min_depth >= self.max_depth:
            raise ValueError(f'min_depth must be below max_depth, got {self.min_depth} and '
                             f'{self.max_depth}')

    @property
    def tolerance(self) -> int:
        """Largest stamp difference of a pair, nanoseconds; 0 without approximate_sync."""
        return round(self.approximate_sync_tolerance * 1e9) if self.approximate_sync else 0

    @property
    def output_size(self) -> Optional[tuple[int, int]]:
        """(width, height) of all outputs; None for that of the images."""
        if self.output_resolution == 'input':
            return None
        return self.network_width, self.network_height

    @property
    def network(self) -> dict[str, Any]:
        """What decides which network runs, and how."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)
                if entry.metadata['change'] == RELOAD}

    def changed(self, values: dict[str, Any]) -> 'NodeSettings':
        """Return new settings with `values` in place of the present ones."""
        return NodeSettings(**{**asdict(self), **values})


def descriptor(entry) -> ParameterDescriptor:
    """Describe one field of `NodeSettings` for `ros2 param describe`."""
    rule = entry.metadata
    message = ParameterDescriptor(description=rule['description'],
                                  read_only=rule['change'] == START)
    if rule['choices']:
        message.additional_constraints = 'one of: ' + ', '.join(rule['choices'])
    if rule['minimum'] is not None and entry.type is int:
        message.integer_range = [IntegerRange(
            from_value=rule['minimum'], to_value=rule['maximum'])]
    elif rule['minimum'] is not None:
        message.floating_point_range = [FloatingPointRange(
            from_value=rule['minimum'], to_value=rule['maximum'])]
    return message


def declare(node) -> NodeSettings:
    """Declare every parameter on `node` and return the checked values.

    Raises:
        ValueError: If an override (YAML, launch, command line) has a wrong type or value.
    """
    values = {}
    for entry in fields(NodeSettings):
        try:
            values[entry.name] = node.declare_parameter(
                entry.name, entry.default, descriptor(entry)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            hint = ''
            if isinstance(entry.default, str) and 'BOOL' in str(error):
                hint = ('; on and off mean true and false in YAML, so quote them: '
                        f'-p {entry.name}:="\'off\'"')
            raise ValueError(f'parameter {entry.name}: {error}{hint}') from error
    return NodeSettings(**values)


def change(settings: NodeSettings, parameters, active: bool
           ) -> tuple[NodeSettings, SetParametersResult]:
    """Apply a set-parameters request; a refusal keeps `settings` and carries the reason.

    Args:
        settings: the present ones.
        parameters: of the request; those of rclpy are ignored.
        active: whether the node is, so that some parameters may not change.
    """
    known = {entry.name for entry in fields(NodeSettings)}
    values = {parameter.name: parameter.value for parameter in parameters
              if parameter.name in known}
    try:
        changed = settings.changed(values)
    except ValueError as error:
        return settings, SetParametersResult(successful=False, reason=str(error))
    for entry in fields(settings):
        if (active and entry.metadata['change'] == INACTIVE
                and getattr(changed, entry.name) != getattr(settings, entry.name)):
            return settings, SetParametersResult(successful=False, reason=(
                f'{entry.name} cannot change while the node is active; deactivate it first '
                '(ros2 lifecycle set)'))
    return changed, SetParametersResult(successful=True)

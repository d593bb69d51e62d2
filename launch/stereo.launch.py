"""Start stereo_node, one for each camera, and on request RViz and the replay of a recording.

An argument that is given wins. One that stays empty becomes what the file of the camera in
config/cameras says, or else leaves its parameter to params_file.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    OpaqueFunction,
    SetEnvironmentVariable,
    SetLaunchConfiguration,
    TimerAction,
)
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace, SetParameter
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.ros_adapters import get_ros_node
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace
from std_srvs.srv import SetBool
import yaml

from launch import LaunchDescription

try:
    from launch.substitutions import NotEqualsSubstitution
except ImportError:  # Humble
    from launch.conditions import LaunchConfigurationNotEquals as is_not
else:
    def is_not(argument, value):
        return IfCondition(NotEqualsSubstitution(LaunchConfiguration(argument), value))

CONFIG = PathJoinSubstitution([FindPackageShare('svp_ros'), 'config'])
BOOLEAN = ['true', 'false']
ARGUMENTS = [
    # name, default, choices, description
    ('camera', '', ['', 'euroc', 'kitti', 'oak', 'realsense', 'zed'],
     'driver or kind of recording whose topic names are taken, see config/cameras'),
    ('cameras', '', None, 'one node in each of these namespaces, such as [front,rear]'),
    ('namespace', '', None, 'namespace of the camera, such as /stereo; all topics are inside; '
     'empty takes that of camera'),
    ('left_image', '', None, 'left image topic; empty takes that of camera or left/image_rect'),
    ('left_camera_info', '', None, 'left CameraInfo topic; empty takes that of camera or '
     'left/camera_info'),
    ('right_image', '', None, 'right image topic; empty takes that of camera or right/image_rect'),
    ('right_camera_info', '', None, 'right CameraInfo topic; empty takes that of camera or '
     'right/camera_info'),
    ('params_file', PathJoinSubstitution([CONFIG, 'stereo.yaml']), None,
     'YAML file with all parameters of the node'),
    ('use_sim_time', 'false', BOOLEAN, 'take the time from /clock; always so with bag'),
    ('log_level', 'info', ['debug', 'info', 'warn', 'error', 'fatal'], 'logging of the node'),
    ('rviz', 'false', BOOLEAN, 'open RViz with images, cloud and boxes'),
    ('rviz_config', PathJoinSubstitution([CONFIG, 'stereo.rviz']), None, 'layout of RViz'),
    ('bag', '', None, 'recording to replay with /clock, once the node is ready; empty plays none'),
]
PARAMETERS = [
    # parameters of the node that are arguments too: name, type, choices, description
    ('autostart', bool, ['', *BOOLEAN], 'configure and activate the node when it starts'),
    ('model', str, None, 'name in models/ or path of a checkpoint'),
    ('device', str, None, 'auto, cpu, cuda or cuda:N'),
    ('engine', str, ['', 'torch', 'onnx', 'openvino', 'tensorrt', 'auto'],
     'what runs the network'),
    ('precision', str, ['', 'fp32', 'bf16', 'fp16', 'int8'], 'of the network'),
    ('rectify', str, ['', 'auto', 'on', 'off'], 'rectify raw images in the node'),
    ('image_transport', str, ['', 'raw', 'compressed'],
     'raw images, or JPEG and PNG on <image topic>/compressed'),
    ('approximate_sync', bool, ['', *BOOLEAN], 'pair images with slightly different stamps'),
    ('approximate_sync_tolerance', float, None, 'largest difference of stamps, seconds'),
    ('target_rate', float, None, 'pairs to process per second; 0 as many as come'),
    ('output_resolution', str, ['', 'input', 'network'], 'size of the outputs'),
]
STOP_S = '15'  # the node itself waits 12 s for a pair in work and a network that loads
PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'  # one if not given
TOPICS = {f'{side}_{topic}': f'{side}/{name}' for side in ('left', 'right')
          for topic, name in (('image', 'image_rect'), ('camera_info', 'camera_info'))}
REMAPPINGS = [(name, LaunchConfiguration(argument)) for argument, name in TOPICS.items()]


def fill_in_camera(context):
    """Set the arguments that are empty to what the file of the camera says."""
    values = dict(TOPICS)
    camera = LaunchConfiguration('camera').perform(context)
    if camera:
        path = PathJoinSubstitution([CONFIG, 'cameras', f'{camera}.yaml']).perform(context)
        values.update(yaml.safe_load(Path(path).read_text()))
    if LaunchConfiguration('cameras').perform(context):
        values.pop('namespace', None)  # the names of the cameras are what differs
    return [SetLaunchConfiguration(name, value) for name, value in values.items()
            if not LaunchConfiguration(name).perform(context)]


def start_nodes(context):
    """Start a node in the namespace of each camera, RViz beside it, and the recording."""
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind)
             for name, kind, *_ in PARAMETERS if LaunchConfiguration(name).perform(context)}
    names = LaunchConfiguration('cameras').perform(context).strip('[] ').split(',')
    cameras = [name.strip(' \'"') for name in names if name.strip()] or ['']
    nodes = [Node(
        package='svp_ros', executable='stereo_node', name='stereo_node', output='screen',
        parameters=[LaunchConfiguration('params_file'), given], remappings=REMAPPINGS,
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        sigterm_timeout=STOP_S) for _ in cameras]
    groups = [GroupAction([
        PushRosNamespace(camera),
        node,
        Node(package='rviz2', executable='rviz2', name='rviz',
             arguments=['-d', LaunchConfiguration('rviz_config')], remappings=REMAPPINGS,
             condition=IfCondition(LaunchConfiguration('rviz')))])
        for camera, node in zip(cameras, nodes)]
    bag = LaunchConfiguration('bag').perform(context)
    return [*groups, *(play_when_ready(bag, cameras, nodes, context) if bag else ())]


def play_when_ready(bag, cameras, nodes, context):
    """Replay a recording when every node is ready; while they load they would miss it.

    A node that has ended is not waited for. Without any nothing is replayed.
    """
    base = context.launch_configurations.get('ros_namespace')
    names = [make_namespace_absolute(prefix_namespace(base, camera)) for camera in cameras]
    clients = [get_ros_node(context).create_client(
        SetBool, f'{name.rstrip("/")}/stereo_node/enable') for name in names]
    player = ExecuteProcess(
        cmd=['ros2', 'bag', 'play', '--clock', '100', bag], output='screen',
        # It starts when a group around this file is over, and its environment with it.
        additional_env={name: context.environment[name] for name in PROFILES})

    def play(_):
        running = [client for node, client in zip(nodes, clients) if node.return_code is None]
        if all(client.service_is_ready() for client in running):
            return [player] if running else []
        return [TimerAction(period=1.0, actions=[OpaqueFunction(function=play)])]

    return play(context)


def generate_launch_description():
    return LaunchDescription([
        *[DeclareLaunchArgument(name, default_value=default, choices=choices,
                                description=description)
          for name, default, choices, description in ARGUMENTS],
        *[DeclareLaunchArgument(name, default_value='', choices=choices,
                                description=f'{description}; empty takes it from params_file')
          for name, _, choices, description in PARAMETERS],
        *[SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=(
            EnvironmentVariable(other, default_value=PathJoinSubstitution(
                [CONFIG, 'fastdds.xml']))))) for name, other in (PROFILES, PROFILES[::-1])],
        GroupAction([  # a scope, so that an including file can start different cameras
            OpaqueFunction(function=fill_in_camera),
            PushRosNamespace(LaunchConfiguration('namespace')),
            SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
            SetParameter('use_sim_time', True, condition=is_not('bag', '')),
            OpaqueFunction(function=start_nodes),
        ]),
    ])

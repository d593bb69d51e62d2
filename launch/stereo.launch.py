"""Start stereo_node, and on request RViz and the replay of a recording.

An argument that stays empty leaves its parameter to params_file; one that is given wins.
"""

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import (
    Node,
    PushRosNamespace,
    SetParameter,
    SetParametersFromFile,
)
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

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
    ('namespace', '', None, 'namespace of the camera, such as /stereo; all topics are inside'),
    ('left_image', 'left/image_rect', None, 'left image topic'),
    ('left_camera_info', 'left/camera_info', None, 'left CameraInfo topic'),
    ('right_image', 'right/image_rect', None, 'right image topic'),
    ('right_camera_info', 'right/camera_info', None, 'right CameraInfo topic'),
    ('params_file', PathJoinSubstitution([CONFIG, 'stereo.yaml']), None,
     'YAML file with all parameters of the node'),
    ('use_sim_time', 'false', BOOLEAN, 'take the time from /clock; always so with bag'),
    ('log_level', 'info', ['debug', 'info', 'warn', 'error', 'fatal'], 'logging of the node'),
    ('rviz', 'false', BOOLEAN, 'open RViz with images, cloud and boxes'),
    ('rviz_config', PathJoinSubstitution([CONFIG, 'stereo.rviz']), None, 'layout of RViz'),
    ('bag', '', None, 'recording to replay with /clock; empty plays none'),
]
PARAMETERS = [
    # parameters of the node that are arguments too: name, type, choices, description
    ('model', str, None, 'name in models/ or path of a checkpoint'),
    ('device', str, None, 'auto, cpu, cuda or cuda:N'),
    ('engine', str, ['', 'torch', 'onnx', 'openvino', 'auto'], 'what runs the network'),
    ('precision', str, ['', 'fp32', 'bf16', 'fp16', 'int8'], 'of the network'),
    ('rectify', str, ['', 'auto', 'on', 'off'], 'rectify raw images in the node'),
    ('image_transport', str, ['', 'raw', 'compressed'],
     'raw images, or JPEG and PNG on <image topic>/compressed'),
    ('approximate_sync', bool, ['', *BOOLEAN], 'pair images with slightly different stamps'),
    ('approximate_sync_tolerance', float, None, 'largest difference of stamps, seconds'),
    ('target_rate', float, None, 'pairs to process per second; 0 as many as come'),
    ('output_resolution', str, ['', 'input', 'network'], 'size of the outputs'),
]
REMAPPINGS = [(f'{side}/{topic}', LaunchConfiguration(f'{side}_{argument}'))
              for side in ('left', 'right')
              for topic, argument in (('image_rect', 'image'), ('camera_info', 'camera_info'))]


def generate_launch_description():
    return LaunchDescription([
        *[DeclareLaunchArgument(name, default_value=default, choices=choices,
                                description=description)
          for name, default, choices, description in ARGUMENTS],
        *[DeclareLaunchArgument(name, default_value='', choices=choices,
                                description=f'{description}; empty takes it from params_file')
          for name, _, choices, description in PARAMETERS],
        *[SetEnvironmentVariable(name, PathJoinSubstitution([CONFIG, 'fastdds.xml']))
          for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')],
        GroupAction([
            PushRosNamespace(LaunchConfiguration('namespace')),
            SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
            SetParameter('use_sim_time', True, condition=is_not('bag', '')),
            SetParametersFromFile(LaunchConfiguration('params_file')),
            *[SetParameter(name, ParameterValue(LaunchConfiguration(name), value_type=kind),
                           condition=is_not(name, ''))
              for name, kind, _, _ in PARAMETERS],
            Node(package='svp_ros', executable='stereo_node', name='stereo_node',
                 output='screen', remappings=REMAPPINGS,
                 arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')]),
            Node(package='rviz2', executable='rviz2', name='rviz',
                 arguments=['-d', LaunchConfiguration('rviz_config')],
                 remappings=REMAPPINGS,
                 condition=IfCondition(LaunchConfiguration('rviz'))),
        ]),
        ExecuteProcess(cmd=['ros2', 'bag', 'play', '--clock', '100', LaunchConfiguration('bag')],
                       output='screen', condition=is_not('bag', '')),
    ])

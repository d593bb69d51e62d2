"""Evaluate a model on a stereo recording: bag in, report out; `svp evaluate bag` for ROS users.

Launch ends when the report is written. Arguments that stay empty take the command's defaults.
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchDescription

ARGUMENTS = [
    # name (with dashes an option of the command), default, choices, description
    ('bag', None, None, 'recording: rosbag2 folder, .mcap or .db3 file'),
    ('out', 'evaluation', None, 'folder for report.html, metrics.json, results.mcap, pictures'),
    ('model', 'nano', None, 'name in models/ or path of a checkpoint'),
    ('compare', '', None, 'another model, scored beside the first'),
    ('mode', 'live', ['live', 'read'], 'live plays the recording to the real node, read takes '
     'every pair from the file'),
    ('rate', '1.0', None, 'speed of playing'),
    ('device', 'auto', None, 'auto, cpu, cuda or cuda:N'),
    ('left', '', None, 'left image topic; empty finds it by type and name'),
    ('right', '', None, 'right image topic; empty finds it'),
    ('left_info', '', None, 'left CameraInfo topic; empty finds it beside the image'),
    ('right_info', '', None, 'right CameraInfo topic; empty finds it beside the image'),
    ('rectify', 'auto', ['auto', 'on', 'off'], 'rectify raw images'),
    ('tolerance', '0.0', None, 'by which the stamps of a pair may differ, seconds'),
    ('truth_topic', '', None, 'ground truth: DisparityImage, depth Image or PointCloud2; empty '
     'takes what is called ground truth, none ignores it'),
    ('truth_boxes', '', None, 'true 3D boxes: MarkerArray (cubes) or Detection3DArray; empty '
     'takes what is called ground truth, none ignores it'),
    ('score_threshold', '', None, 'least score of the boxes that are shown and whose centres are '
     'compared; average precision takes every score'),
    ('limit', '', None, 'score only the first pairs, this many; empty scores all'),
]


def generate_launch_description():
    options = [[f'--{name.replace("_", "-")}=', LaunchConfiguration(name)]
               for name, *_ in ARGUMENTS if name != 'bag']
    return LaunchDescription([
        *[DeclareLaunchArgument(name, default_value=default, choices=choices,
                                description=description)
          for name, default, choices, description in ARGUMENTS],
        ExecuteProcess(
            cmd=[ExecutableInPackage('svp', 'svp_ros'), 'evaluate', 'bag',
                 LaunchConfiguration('bag'), *options],
            name='evaluate_bag', output='screen',
            sigterm_timeout='30'),  # it stops player, recorder and node, in 10 s each
    ])

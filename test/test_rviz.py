"""config/stereo.rviz against the classes and properties of rviz (jazzy branch of ros2/rviz)."""

import pytest
import yaml

from svp_ros.resources import find_resource

TOPIC = {'Value', 'Depth', 'Durability Policy', 'History Policy', 'Reliability Policy'}
COMMON = {'Class', 'Enabled', 'Name', 'Value'}
DISPLAYS = {
    'Grid': COMMON | {'Alpha', 'Cell Size', 'Color', 'Line Style', 'Normal Cell Count', 'Offset',
                      'Plane', 'Plane Cell Count', 'Reference Frame'},
    'TF': COMMON | {'Filter (blacklist)', 'Filter (whitelist)', 'Frame Timeout', 'Frames',
                    'Marker Scale', 'Show Arrows', 'Show Axes', 'Show Names', 'Tree',
                    'Update Interval'},
    'Image': COMMON | {'Max Value', 'Median window', 'Min Value', 'Normalize Range', 'Topic'},
    'PointCloud2': COMMON | {'Alpha', 'Color Transformer', 'Decay Time', 'Position Transformer',
                             'Selectable', 'Size (Pixels)', 'Size (m)', 'Style', 'Topic'},
    'MarkerArray': COMMON | {'Namespaces', 'Topic'},
}
FILTERED = {'PointCloud2'}  # displays on a message filter have one more property
OPTIONS = {
    'Style': {'Points', 'Squares', 'Flat Squares', 'Spheres', 'Boxes', 'Tiles'},
    'Color Transformer': {'RGB8', 'RGBF32', 'Intensity', 'AxisColor', 'FlatColor'},
    'Position Transformer': {'XYZ'},
    'Plane': {'XY', 'XZ', 'YZ'},
    'Durability Policy': {'System Default', 'Volatile', 'Transient Local'},
    'History Policy': {'System Default', 'Keep Last', 'Keep All'},
    'Reliability Policy': {'System Default', 'Reliable', 'Best Effort'},
}
TOOLS = {'Interact', 'MoveCamera', 'Select', 'FocusCamera', 'Measure', 'SetInitialPose', 'SetGoal',
         'PublishPoint'}
ORBIT = {'Class', 'Name', 'Value', 'Distance', 'Focal Point', 'Focal Shape Fixed Size',
         'Focal Shape Size', 'Near Clip Distance', 'Pitch', 'Target Frame', 'Yaw',
         'Enable Stereo Rendering', 'Invert Z Axis'}


@pytest.fixture(scope='module')
def manager():
    text = find_resource('config/stereo.rviz').read_text()
    return yaml.safe_load(text)['Visualization Manager']


def test_displays_and_their_properties_exist_in_rviz(manager):
    for display in manager['Displays']:
        package, name = display['Class'].split('/')
        assert package == 'rviz_default_plugins'
        assert not display.keys() - DISPLAYS[name], f'{name} has no such property'
        topic = display.get('Topic', {})
        assert not topic.keys() - TOPIC - ({'Filter size'} if name in FILTERED else set())
        for key, value in {**display, **topic}.items():
            assert value in OPTIONS.get(key, [value]), f'{name}: {key} cannot be {value}'


def test_the_layout_shows_images_cloud_boxes_frames_and_grid(manager):
    shown = [(display['Class'].split('/')[1], display.get('Topic', {}).get('Value'))
             for display in manager['Displays'] if display['Enabled']]
    assert {('Image', 'left/image_rect'), ('Image', 'disparity_color'), ('PointCloud2', 'points2'),
            ('MarkerArray', 'markers'), ('TF', None), ('Grid', None)} <= set(shown)


def test_the_topics_are_topics_of_the_node(manager):
    from svp_ros.ros import outputs
    topics = {display['Topic']['Value'] for display in manager['Displays'] if 'Topic' in display}
    assert topics - {'left/image_rect'} <= set(outputs.TOPICS)


def test_tools_and_view_exist_in_rviz(manager):
    assert {tool['Class'].split('/')[1] for tool in manager['Tools']} <= TOOLS
    view = manager['Views']['Current']
    assert view['Class'] == 'rviz_default_plugins/Orbit' and not view.keys() - ORBIT
    assert manager['Global Options'].keys() <= {'Background Color', 'Fixed Frame', 'Frame Rate'}

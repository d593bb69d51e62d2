"""Topics of the common drivers are found by name and type; otherwise one sentence says why."""

import pytest

from svp_ros.data.bag_messages import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DISPARITY_IMAGE,
    IMAGE,
    POINT_CLOUD,
)
from svp_ros.data.bag_topics import find_stereo_topics, find_truth_topic
from svp_ros.data.rosbag2 import BagReader, BagWriter

DRIVERS = {
    'stereo_image_proc': (
        ('/left/image_raw', '/left/image_rect', '/left/image_rect_color', '/right/image_raw',
         '/right/image_rect', '/right/image_rect_color'), None, None),
    'RealSense': (
        ('/camera/camera/infra1/image_rect_raw', '/camera/camera/infra2/image_rect_raw',
         '/camera/camera/infra1/image_rect_raw/compressed', '/camera/camera/color/image_raw',
         '/camera/camera/infra2/image_rect_raw/compressed',
         '/camera/camera/depth/image_rect_raw'),
        '/camera/camera/infra1/image_rect_raw', '/camera/camera/infra1/camera_info'),
    'ZED 5': (
        ('/zed/zed_node/left/color/rect/image', '/zed/zed_node/right/color/rect/image',
         '/zed/zed_node/left/gray/rect/image', '/zed/zed_node/right/gray/rect/image',
         '/zed/zed_node/left/color/raw/image', '/zed/zed_node/right/color/raw/image',
         '/zed/zed_node/rgb/color/rect/image', '/zed/zed_node/depth/depth_registered'),
        '/zed/zed_node/left/color/rect/image', '/zed/zed_node/left/color/rect/camera_info'),
    'ZED 4': (
        ('/zed/zed_node/left/image_rect_color', '/zed/zed_node/right/image_rect_color',
         '/zed/zed_node/left_raw/image_raw_color', '/zed/zed_node/right_raw/image_raw_color'),
        '/zed/zed_node/left/image_rect_color', '/zed/zed_node/left/camera_info'),
    'EuRoC': (('/cam0/image_raw', '/cam1/image_raw'), '/cam0/image_raw', '/cam0/camera_info'),
    'OAK': (('/oak/left/image_rect', '/oak/right/image_rect', '/oak/rgb/image_raw',
             '/oak/stereo/image_raw'), '/oak/left/image_rect', '/oak/left/camera_info'),
    'kitti2bag': (
        ('/kitti/camera_gray_left/image_raw', '/kitti/camera_gray_right/image_raw',
         '/kitti/camera_color_left/image_raw', '/kitti/camera_color_right/image_raw'),
        '/kitti/camera_color_left/image_raw', '/kitti/camera_color_left/camera_info'),
    'ros2_kitti_publishers': (
        ('/kitti/image/gray/left', '/kitti/image/gray/right', '/kitti/image/color/left',
         '/kitti/image/color/right'), '/kitti/image/color/left',
        '/kitti/image/color/left/camera_info'),
    'Isaac Nova': (
        ('/front_stereo_camera/left/image_raw', '/front_stereo_camera/right/image_raw'),
        '/front_stereo_camera/left/image_raw', '/front_stereo_camera/left/camera_info'),
}


def write_topics(path, images, infos=(), image_type=IMAGE, **others):
    with BagWriter(path) as bag:
        for topic in images:
            bag.add_topic(topic, COMPRESSED_IMAGE if topic.endswith('compressed') else image_type)
        for topic in infos:
            bag.add_topic(topic, CAMERA_INFO)
        for topic, type_ in others.items():
            bag.add_topic(topic.replace('__', '/'), type_)
    return path


def beside(topics):
    """A camera_info beside each image, as image_transport has it."""
    folders = {topic.removesuffix('/compressed').rpartition('/')[0] for topic in topics}
    return [f'{folder}/camera_info' for folder in sorted(folders)]


@pytest.mark.parametrize('driver', sorted(set(DRIVERS) - {'stereo_image_proc'}))
def test_names_of_drivers_are_known(tmp_path, driver):
    images, left, info = DRIVERS[driver]
    infos = ([f'{topic}/camera_info' for topic in images] if info.startswith(left + '/')
             else beside(images))
    with BagReader(write_topics(tmp_path / 'bag', images, infos)) as bag:
        topics = find_stereo_topics(bag)
    assert (topics.left, topics.left_info) == (left, info)
    for eyes in (('left', 'right'), ('infra1', 'infra2'), ('cam0', 'cam1')):
        left, info = left.replace(*eyes), info.replace(*eyes)
    assert (topics.right, topics.right_info) == (left, info)


def test_rectified_images_of_isaac_take_the_camera_info_of_their_own(tmp_path):
    images = [f'/{side}/image_{kind}' for side in ('left', 'right') for kind in ('raw', 'rect')]
    infos = [f'/{side}/camera_info{kind}' for side in ('left', 'right') for kind in ('', '_rect')]
    with BagReader(write_topics(tmp_path / 'bag', images, infos)) as bag:
        assert find_stereo_topics(bag) == ('/left/image_rect', '/right/image_rect',
                                           '/left/camera_info_rect', '/right/camera_info_rect')
        assert find_stereo_topics(bag, left='left/image_raw') == (
            '/left/image_raw', '/right/image_raw', '/left/camera_info', '/right/camera_info')


def test_camera_info_may_lie_above_and_images_may_be_compressed(tmp_path):
    images = ['/a/left/color/image/compressed', '/a/right/color/image/compressed']
    path = write_topics(tmp_path / 'bag', images, ['/a/left/camera_info', '/a/right/camera_info'])
    with BagReader(path) as bag:
        assert find_stereo_topics(bag) == (*images, '/a/left/camera_info', '/a/right/camera_info')


@pytest.mark.parametrize('images, infos, message', [
    ([], [], r'bag has no topics of images \(sensor_msgs Image or .*Topics: /imu \(sensor_msgs'),
    (['/left/image_rect', '/color/image'], [],
     'has /left/image_rect but no /right/image_rect: one eye is missing; .*Images: /color/image'),
    (['/cam1/image_raw'], [], 'has /cam1/image_raw but no /cam0/image_raw: one eye is missing'),
    (['/port/image', '/starboard/image'], [],
     'no two image topics whose names differ only in left/right, infra1/infra2, cam0/cam1 or'),
    (['/cam0/image_raw', '/cam1/image_raw'], ['/other/camera_info'],
     r'no calibration for /cam0/image_raw: .*CameraInfo topics: /other/camera_info'),
    (['/rig/left/image', '/rig/right/image'], ['/rig/camera_info'],
     '/rig/camera_info cannot be the camera_info of both eyes'),
    (['/front/left/image', '/front/right/image', '/rear/left/image', '/rear/right/image'], [],
     'several stereo cameras, left images are /front/left/image, /rear/left/image; name one')])
def test_what_is_missing_is_said_in_one_sentence(tmp_path, images, infos, message):
    path = write_topics(tmp_path / 'bag', images, infos, __imu='sensor_msgs/msg/Imu')
    with BagReader(path) as bag, pytest.raises(ValueError, match=message) as caught:
        find_stereo_topics(bag)
    assert '\n' not in str(caught.value)


def test_a_topic_that_holds_no_images_is_refused(tmp_path):
    path = write_topics(tmp_path / 'bag', ['/left/image'], __imu='sensor_msgs/msg/Imu')
    with BagReader(path) as bag, pytest.raises(ValueError, match='/imu of .* holds sensor_msgs/'):
        find_stereo_topics(bag, left='imu', right='left/image')


def test_only_what_is_called_ground_truth_is_ground_truth(tmp_path):
    sensors = {'__stereo__disparity': DISPARITY_IMAGE, '__depth__image_rect_raw': IMAGE,
               '__velodyne_points': POINT_CLOUD}
    truths = [('__gt__points', POINT_CLOUD), ('__ground_truth__depth', IMAGE),
              ('__groundtruth__disparity', DISPARITY_IMAGE)]
    for number in range(4):
        path = write_topics(tmp_path / f'bag{number}', (), (), **sensors, **dict(truths[:number]))
        with BagReader(path) as bag:
            expected = truths[number - 1][0].replace('__', '/') if number else None
            assert find_truth_topic(bag) == expected
    path = write_topics(tmp_path / 'two', (), __gt__a=POINT_CLOUD, __gt__b=POINT_CLOUD)
    with BagReader(path) as bag, pytest.raises(ValueError, match='several .*/gt/a, /gt/b; name'):
        find_truth_topic(bag)

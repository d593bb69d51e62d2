"""A camera driver that does what faults ask for, around a node under test."""

from builtin_interfaces.msg import Time
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from stereo_rig import FRAME, random_pair

from svp_ros.ros.conversions import array_to_image

SIDES = ('left', 'right')
S = 1_000_000_000


class Driver:
    """A camera driver that does what faults ask for."""

    def __init__(self, rig, model):
        self.rig, self.model = rig, model
        self.last = 100_000 * S  # stamp, nanoseconds
        self.round = 0
        self.clock = None

    def send(self, edit_image=lambda side, message: None, edit_info=lambda side, message: None,
             stamp=None, offset=0, sides=SIDES, infos=SIDES, pair=None, encoding='rgb8'):
        """Publish camera_info and images of one pair, after edit_*(side, message) changed them.

        Its stamp, nanoseconds, is the next one unless given; right ones are `offset` later.
        """
        if stamp is None:
            self.last = stamp = self.last + S // 10
        pair = random_pair(stamp // (S // 10) % 1000) if pair is None else pair
        c = self.rig.camera
        for side, cx, tx, pixels in zip(SIDES, (c.cx, c.cx_right), (0.0, -c.fx * c.baseline),
                                        pair):
            header = Header(frame_id=FRAME, stamp=to_stamp(stamp + offset * (side == 'right')))
            info = CameraInfo(
                header=header, width=c.width, height=c.height, r=np.eye(3).ravel(),
                k=[c.fx, 0.0, cx, 0.0, c.fy, c.cy, 0.0, 0.0, 1.0],
                p=[c.fx, 0.0, cx, tx, 0.0, c.fy, c.cy, 0.0, 0.0, 0.0, 1.0, 0.0])
            if side in infos:
                edit_info(side, info)
                self.rig.infos[side].publish(info)
            if side in sides:
                image = array_to_image(pixels, encoding, header)
                edited = edit_image(side, image)
                self.rig.images[side].publish(image if edited is None else edited)

    def publish_clock(self, seconds):
        self.clock.publish(Clock(clock=to_stamp(seconds * S)))

    def simulate_time(self):
        self.clock = self.rig.node.create_publisher(Clock, '/clock', 5)
        assert self.rig.set_parameter('use_sim_time', True).successful

    def end_simulation(self):
        self.rig.node.destroy_publisher(self.clock)
        assert self.rig.set_parameter('use_sim_time', False).successful

    def remove_right(self):
        self.rig.node.destroy_publisher(self.rig.images['right'])

    def restore_right(self):
        self.rig.images['right'] = self.rig.node.create_publisher(Image, 'right/image_rect', 20)
        assert self.rig.spin_until(self.rig.images['right'].get_subscription_count)


def to_stamp(nanoseconds):
    return Time(sec=nanoseconds // S, nanosec=nanoseconds % S)

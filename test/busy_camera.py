"""A stereo camera as a process: pairs at a steady rate, stamped with the time of this machine.

Run it as `busy_camera.py NAMESPACE RATE SECONDS`.
"""

import sys
import time

from builtin_interfaces.msg import Time
import numpy as np
import rclpy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from svp_ros.ros.conversions import array_to_image

HEIGHT, WIDTH = 480, 640


def main():
    namespace, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    rclpy.init()
    node = rclpy.create_node('camera', namespace=namespace)
    images = [node.create_publisher(Image, f'{side}/image_rect', 5) for side in ('left', 'right')]
    infos = [node.create_publisher(CameraInfo, f'{side}/camera_info', 5)
             for side in ('left', 'right')]
    while not all(publisher.get_subscription_count() for publisher in (*images, *infos)):
        time.sleep(0.02)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    messages = [array_to_image(np.roll(pixels, -shift, 1), 'mono8', Header()) for shift in (0, 9)]
    start = time.monotonic()
    for frame in range(round(rate * seconds)):
        time.sleep(max(0.0, start + frame / rate - time.monotonic()))
        now = time.time_ns()
        header = Header(stamp=Time(sec=now // 10**9, nanosec=now % 10**9), frame_id='left')
        for eye, tx in enumerate((0.0, -50.0)):
            infos[eye].publish(CameraInfo(
                header=header, width=WIDTH, height=HEIGHT, r=np.eye(3).ravel(),
                k=[500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0],
                p=[500.0, 0.0, 320.0, tx, 0.0, 500.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]))
            messages[eye].header = header
            images[eye].publish(messages[eye])
    print(f'sent {round(rate * seconds)} pairs', flush=True)
    time.sleep(0.5)
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()

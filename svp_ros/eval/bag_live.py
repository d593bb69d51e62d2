"""Play a recording through the real node over ROS 2 and record what it publishes."""

from pathlib import Path
import time

from svp_ros.data.bag_topics import StereoTopics
from svp_ros.processes import ModuleProcess

START_S = 120.0  # a cold disk reads the libraries slowly
END_S = 60.0  # the node finishes a pair in progress
SETTLE_S = 2.5  # the last pair is counted in /diagnostics, which come every second
OUTPUTS = ('/disparity', '/depth', '/confidence', '/markers', '/diagnostics',
           *(f'/stereo_node/debug/{stage}_ms' for stage in (
               'preprocess', 'inference', 'postprocess', 'total', 'age')))


def play_through_node(bag: Path, topics: StereoTopics, recording: Path,
                      parameters: dict[str, object], logs: Path, environment: dict[str, str],
                      duration_s: float = 0.0, rate: float = 1.0) -> None:
    """Play a recording into a fresh node over DDS and record what it publishes.

    Args:
        bag: with the topics.
        topics: of the stereo camera, images raw or compressed.
        recording: rosbag2 folder to create.
        parameters: of the node.
        logs: folder for the logs of the three processes.
        environment: of the processes, from `ros_environment`.
        duration_s: of the recording, for which the player gets time.
        rate: speed; 2 plays twice as fast.

    Raises:
        ProcessError: If a process fails, ends early or takes too long.
    """
    compressed = topics.left.endswith('/compressed')
    parameters = {'use_sim_time': 'true',
                  'image_transport': 'compressed' if compressed else 'raw', **parameters}
    settings = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    names = ('left/image_rect', 'right/image_rect', 'left/camera_info', 'right/camera_info')
    remaps = [word for name, topic in zip(names, topics)
              for word in ('-r', f'{name}:={topic.removesuffix("/compressed")}')]
    with ModuleProcess('svp_ros.ros.node', ['--ros-args', *settings, *remaps], logs / 'node.log',
                       environment) as node, \
            ModuleProcess('svp_ros.ros.recorder',
                          [recording, f'{topics.left_info}=sensor_msgs/msg/CameraInfo', *OUTPUTS,
                           '--wait', START_S], logs / 'recorder.log', environment) as recorder:
        recorder.wait_for('recording ', START_S, [node])
        with ModuleProcess('svp_ros.ros.player',
                           [bag, '--clock', '--rate', rate, '--topics', *topics,
                            '--start-delay', 0.5, '--wait-for-subscribers', START_S,
                            '--subscribers', f'{topics.left_info}:=2'],  # the node, the recorder
                           logs / 'player.log', environment) as player:
            player.finish(2 * START_S + 2 * duration_s / rate, [node, recorder])
        _wait_until_idle(node.pid, START_S)
        time.sleep(SETTLE_S)
        recorder.interrupt(END_S)
        node.interrupt(END_S)


def _wait_until_idle(pid: int, timeout_s: float) -> None:
    """Wait until a process has nothing to compute for a second, such as its last pair.

    Counts its threads that want a processor, so that a busy machine makes no difference. Needs
    /proc; without it, returns at once.
    """
    deadline_s, idle = time.monotonic() + timeout_s, 0
    while idle < 10 and time.monotonic() < deadline_s:
        states = []
        for path in Path(f'/proc/{pid}/task').glob('*/stat'):
            try:
                states.append(path.read_text().rpartition(') ')[2][0])
            except OSError:  # the thread has ended
                continue
        idle = 0 if 'R' in states else idle + 1
        time.sleep(0.1)

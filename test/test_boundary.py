import json
import subprocess
import sys

import pytest

# Everything that a ROS installation brings; none of it may be needed outside svp_ros/ros.
IMPORT_WITHOUT_ROS = """
import importlib, json, pkgutil, re, sys

class NoRos:
    def find_spec(self, name, path=None, target=None):
        if re.match(r'(rclpy|rosidl_\\w+|\\w+_msgs|\\w+_interfaces|std_srvs|cv_bridge|tf2_ros|'
                    r'message_filters|ament_index_python|launch|launch_ros)(\\.|$)', name):
            raise ModuleNotFoundError(f'{name} is not there', name=name)

sys.meta_path.insert(0, NoRos())
import svp_ros
heavy = sorted({'torch', 'numpy', 'cv2', 'yaml'} & set(sys.modules))
modules = [module.name for module in pkgutil.walk_packages(svp_ros.__path__, 'svp_ros.')
           if not (module.name + '.').startswith('svp_ros.ros.')]
failures = {}
for name in modules:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failures[name] = str(error)
try:
    importlib.import_module('svp_ros.ros.node')
    node_without_ros = True
except ImportError:
    node_without_ros = False
print(json.dumps([heavy, modules, failures, node_without_ros]))
"""


@pytest.fixture(scope='module')
def without_ros():
    run = subprocess.run([sys.executable, '-c', IMPORT_WITHOUT_ROS], capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_every_module_outside_ros_imports_without_ros(without_ros):
    _, modules, failures, node_without_ros = without_ros
    assert failures == {}
    assert {'svp_ros.predictor', 'svp_ros.data.world.world', 'svp_ros.demo'} <= set(modules)
    assert not node_without_ros, 'the test no longer takes ROS away'


def test_importing_the_package_is_cheap(without_ros):
    assert without_ros[0] == []

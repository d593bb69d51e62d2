from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import svp_ros
from svp_ros.resources import find_resource

ROOT = Path(svp_ros.__file__).parent.parent
# catkin_pkg refuses other addresses, and colcon then builds a plain Python package in silence.
EMAIL = r'[-a-zA-Z0-9_%+]+(\.[-a-zA-Z0-9_%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}'


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
    """A prefix into which the package alone is installed by pip, from a copy of the sources."""
    source = tmp_path_factory.mktemp('source')
    for name in ('config', 'launch', 'models', 'resource', 'svp_ros', 'test'):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name,
                            ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('package.xml', 'pyproject.toml', 'setup.cfg', 'setup.py', 'README.md', 'LICENSE'):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
    prefix = tmp_path_factory.mktemp('prefix')
    pip = subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-build-isolation',
         '--no-index', '--ignore-installed', '--prefix', str(prefix), str(source)],
        capture_output=True, text=True)
    assert pip.returncode == 0, pip.stderr
    return prefix


@pytest.fixture(scope='module')
def site(prefix):
    return next(prefix.glob('lib/python*/site-packages'))


def relative_files(folder, pattern='*'):
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)
            if path.is_file() and '__pycache__' not in path.parts}


def test_every_module_is_installed_and_the_tests_are_not(site):
    assert relative_files(site / 'svp_ros', '*.py') == relative_files(ROOT / 'svp_ros', '*.py')
    assert not (site / 'test').exists()


@pytest.mark.parametrize('folder', ['config', 'launch', 'models'])
def test_every_shipped_file_is_installed_where_ros_looks(prefix, folder):
    shipped = relative_files(ROOT / folder)
    assert shipped
    assert relative_files(prefix / 'share' / 'svp_ros' / folder) == shipped


def test_ament_index_and_package_xml_are_installed(prefix):
    assert (prefix / 'share/ament_index/resource_index/packages/svp_ros').is_file()
    assert (prefix / 'share/svp_ros/package.xml').is_file()


def test_installed_package_finds_its_own_files(prefix, site, tmp_path):
    program = ('import svp_ros.resources as r; print(r.__file__); '
               'print(r.find_resource("config/fastdds.xml"))')
    run = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                         cwd=tmp_path, env={'PYTHONPATH': str(site)})
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [str(site / 'svp_ros' / 'resources.py'),
                                       str(prefix / 'share/svp_ros/config/fastdds.xml')]


def test_source_tree_finds_its_files_and_names_what_is_missing():
    assert find_resource('package.xml') == ROOT / 'package.xml'
    assert find_resource('config').is_dir()
    with pytest.raises(FileNotFoundError, match='does not ship "config/nothing.yaml"'):
        find_resource('config/nothing.yaml')


def test_executables_exist_and_ros2_run_finds_them(prefix, site):
    points = ConfigParser()
    points.read(next(site.glob('svp_ros-*.dist-info')) / 'entry_points.txt')
    scripts = dict(points['console_scripts'])
    assert set(scripts) == {'svp', 'stereo_node', 'pretrain'}
    for name, target in scripts.items():
        assert (prefix / 'bin' / name).is_file()
        module, function = target.split(':')
        assert callable(getattr(import_module(module), function))
    # colcon installs scripts through these options; ros2 run looks nowhere else.
    setup = ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    assert setup['install']['install_scripts'] == '$base/lib/svp_ros'
    assert setup['develop']['script_dir'] == '$base/lib/svp_ros'


def test_package_xml_is_a_valid_ament_python_package():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.get('format') == '3'
    assert package.findtext('name') == 'svp_ros'
    assert package.findtext('export/build_type') == 'ament_python'
    assert package.findtext('license') == 'Apache-2.0'
    assert re.fullmatch(EMAIL, package.find('maintainer').get('email'))
    keys = [element.text for element in package if element.tag.endswith('depend')]
    assert len(keys) == len(set(keys))
    assert {'rclpy', 'sensor_msgs', 'stereo_msgs', 'visualization_msgs', 'diagnostic_msgs',
            'std_srvs', 'vision_msgs', 'cv_bridge', 'launch', 'launch_ros', 'python3-opencv',
            'python3-numpy'} <= set(keys)


def test_every_ros_package_that_is_imported_is_declared():
    imported = set()
    for path in [*(ROOT / 'svp_ros' / 'ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]:
        imported |= set(re.findall(r'^\s*(?:import|from) (rclpy|\w+_msgs|std_srvs|cv_bridge|'
                                   r'launch|launch_ros|\w+_interfaces)\b', path.read_text(), re.M))
    declared = (ROOT / 'package.xml').read_text()
    assert {'rclpy', 'sensor_msgs'} <= imported
    # builtin and rcl_interfaces come with rclpy itself.
    for name in imported - {'builtin_interfaces', 'rcl_interfaces'}:
        assert f'<exec_depend>{name}</exec_depend>' in declared, name


def test_versions_agree(site):
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert package.findtext('version') == svp_ros.__version__
    assert (site / f'svp_ros-{svp_ros.__version__}.dist-info').is_dir()


def test_constraints_pin_every_requirement(site):
    metadata = (next(site.glob('svp_ros-*.dist-info')) / 'METADATA').read_text()
    required = re.findall(r'^Requires-Dist: ([-\w]+)', metadata, re.M)
    pinned = re.findall(r'^([-\w]+)==', (ROOT / 'constraints.txt').read_text(), re.M)
    assert 'torch' in required
    assert {name.lower() for name in required} <= set(pinned)

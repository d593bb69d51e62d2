from pathlib import Path

from setuptools import find_packages, setup

package_name = 'svp_ros'


def data_files():
    """List the files outside the Python package with the place where ROS looks for them."""
    files = [
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
    ]
    for root in ('config', 'launch', 'models'):
        for folder in sorted(path for path in [Path(root), *Path(root).rglob('*')]
                             if path.is_dir() and path.name != '__pycache__'):
            content = sorted(str(path) for path in folder.iterdir() if path.is_file())
            files.append((f'share/{package_name}/{folder.as_posix()}', content))
    return files


setup(
    name=package_name,
    version='0.1.0',
    description='Real-time stereo perception for ROS 2: disparity and depth from one small '
                'network',
    maintainer='svp_ros maintainers',
    maintainer_email='maintainers@svp-ros.example.org',
    license='Apache-2.0',
    packages=find_packages(exclude=['test', 'test.*']),
    data_files=data_files(),
    python_requires='>=3.10',
    install_requires=[
        'lightning>=2.3',
        'matplotlib>=3.6',
        'numpy',
        # The same cv2 as opencv-python, without the windows that need libGL and libxcb, which a
        # bare machine lacks. Both wheels own one folder: do not install them side by side.
        'opencv-python-headless>=4.8',
        'pyyaml',
        'rosbags>=0.10.6',
        'safetensors>=0.4',
        'scikit-image>=0.21',
        'tensorboard',
        'timm>=1.0.12',
        'torch>=2.5',
        'tqdm',
    ],
    extras_require={
        # ROS 2 Jazzy as wheels, for machines without ROS; never beside a ROS installation.
        'ros': [
            'ros-jazzy-diagnostic-msgs==5.3.6',
            'ros-jazzy-rclpy==7.1.6',
            'ros-jazzy-rosgraph-msgs==2.0.3',
            'ros-jazzy-sensor-msgs==5.3.6',
            'ros-jazzy-std-srvs==5.3.6',
            'ros-jazzy-stereo-msgs==5.3.6',
            'ros-jazzy-visualization-msgs==5.3.6',
            'ros-rmw-fastrtps-cpp==8.4.3',
        ],
        # Engines beside PyTorch, 290 MB on disk; nncf makes the int8 network.
        'onnx': ['onnx', 'onnxruntime'],
        'openvino': ['onnx', 'openvino'],
        'int8': ['nncf', 'onnx', 'openvino'],
        'test': ['mcap-ros2-support', 'onnx', 'onnxruntime', 'openvino', 'pytest', 'pytest-xdist',
                 'ruff', 'shapely'],
    },
    entry_points={
        'console_scripts': [
            'stereo_node = svp_ros.cli:stereo_node',
            'svp = svp_ros.cli:main',
            'pretrain = svp_ros.cli:pretrain',
        ],
    },
)

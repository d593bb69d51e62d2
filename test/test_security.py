"""Nothing that a user loads is executed, and SROS 2 allows what the node does and no more."""

import ast
import hashlib
import os
from pathlib import Path
import re
import signal
import xml.etree.ElementTree as ElementTree

import pytest
import rclpy
import torch

from svp_ros.config import load_yaml
from svp_ros.predictor import StereoPredictor
from svp_ros.ros.node import main, StereoNode

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / 'svp_ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')])
MODELS = sorted((ROOT / 'models').glob('*.safetensors'))
UNPICKLERS = {'pickle', 'cPickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve'}
DOWNLOADING = {'urllib', 'requests', 'http', 'socket', 'ftplib', 'pooch', 'huggingface_hub'}
EXECUTING = {'eval', 'exec', 'compile', 'os.system', 'os.popen', 'yaml.load', 'yaml.unsafe_load',
             'yaml.full_load', 'torch.hub.load', 'pandas.read_pickle'}


@pytest.fixture(autouse=True)
def signal_handlers():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def calls(path):
    """Every call of a source file: the dotted name of what is called, and its keywords."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value)
                                           for word in node.keywords}


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_executes_or_unpickles_what_it_reads_or_downloads(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or '').partition('.')[0])
    assert not imported & (UNPICKLERS | DOWNLOADING)
    for name, keywords in calls(path):
        assert name not in EXECUTING, f'{path.name} calls {name}'
        assert keywords.get('shell', 'False') == 'False', f'{path.name} starts a shell'
        if name == 'torch.load':
            assert keywords['weights_only'] == 'True' and path.parent.name == 'train'
        if name in ('np.load', 'numpy.load'):
            assert keywords.get('allow_pickle', 'False') == 'False'


def test_the_scan_sees_the_one_file_that_torch_load_reads():
    found = [path.name for path in SOURCES for name, _ in calls(path) if name == 'torch.load']
    assert found == ['loop.py']


class Attack:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_place_of_a_model_is_refused_and_not_run(tmp_path):
    path, proof = tmp_path / 'model.safetensors', tmp_path / 'executed'
    torch.save({'weight': Attack(proof)}, path)
    with pytest.raises(ValueError, match='is not a readable .safetensors file'):
        StereoPredictor.load(path, device='cpu')
    assert not proof.exists()
    torch.load(path.rename(tmp_path / 'model.pt'), weights_only=False)
    assert proof.exists(), 'the attack would not have worked anyway'


def test_python_objects_in_yaml_are_refused_and_not_made(tmp_path):
    path, proof = tmp_path / 'config.yaml', tmp_path / 'executed'
    path.write_text(f'steps: !!python/object/apply:os.mkdir ["{proof}"]\n')
    with pytest.raises(ValueError, match='is not valid YAML'):
        load_yaml(path)
    assert not proof.exists()


@pytest.mark.parametrize('path', MODELS, ids=lambda path: path.stem)
def test_a_shipped_model_has_the_checksum_of_its_card(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = path.with_suffix('.md').read_text()
    assert re.findall(r'SHA-256 `([0-9a-f]{64})`', card) == [digest]


def test_the_predictor_reports_the_checksum_of_the_file_it_runs():
    digest = hashlib.sha256((ROOT / 'models/nano.safetensors').read_bytes()).hexdigest()
    assert StereoPredictor.load('nano', device='cpu').card['sha256'] == digest


def test_a_model_that_is_not_the_one_of_its_card_is_refused(tmp_path, tiny_model):
    path, card = tmp_path / 'mine.safetensors', tmp_path / 'mine.md'
    path.write_bytes(tiny_model.read_bytes())
    card.write_text('# mine\n\nTrained on my own pairs.\n')  # names no checksum
    StereoPredictor.load(path, device='cpu', network_size=(64, 64))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card.write_text(f'| file | `mine.safetensors`, SHA-256 `{digest}` |\n')
    StereoPredictor.load(path, device='cpu', network_size=(64, 64))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    other = hashlib.sha256(content).hexdigest()
    said = f'its SHA-256 is {other}, its card mine.md says {digest}'
    with pytest.raises(ValueError, match=said):
        StereoPredictor.load(path, device='cpu')


def test_models_holds_no_other_weights():
    kinds = {path.suffix for path in (ROOT / 'models').iterdir() if path.is_file()}
    assert MODELS and kinds <= {'.safetensors', '.md', '.csv', '.json'}


def profile():
    """The profile of the policy; every element and attribute of it is of SROS 2's schema."""
    policy = ElementTree.parse(ROOT / 'config/sros2_policy.xml').getroot()
    assert (policy.tag, policy.get('version')) == ('policy', '0.2.0')
    (enclave,) = policy.findall('enclaves/enclave')
    (found,) = enclave.findall('profiles/profile')
    assert enclave.get('path').startswith('/') and set(found.keys()) == {'ns', 'node'}
    rules = {'topics': ({'publish', 'subscribe'}, 'topic'),
             'services': ({'reply', 'request'}, 'service')}
    for group in found:
        verbs, item = rules[group.tag]
        assert set(group.keys()) <= verbs and set(group.attrib.values()) == {'ALLOW'}
        assert len(group) and {element.tag for element in group} == {item}
    return found


def names(group, verb, namespace, node):
    """Resolved names that the policy allows, in a namespace."""
    replaced = {'/': '', '~': f'{namespace}/{node}'}
    return {replaced[text[0]] + text.lstrip('~') if text[0] in replaced else f'{namespace}/{text}'
            for element in profile().findall(group) if element.get(verb)
            for text in (item.text for item in element)}


def test_the_policy_allows_what_the_node_uses_and_nothing_else(tiny_model):
    rclpy.init(args=['--ros-args', '-p', f'model:={tiny_model}', '-p', 'device:=cpu', '-r',
                     '__ns:=/front'])
    node = None
    try:
        node = StereoNode()
        me = 'stereo_node', '/front'
        published, subscribed, services = (
            {name for name, _ in graph(*me)} for graph in (
                node.get_publisher_names_and_types_by_node,
                node.get_subscriber_names_and_types_by_node,
                node.get_service_names_and_types_by_node))
    finally:
        if node is not None:
            node.stop()
            node.destroy_node()
        rclpy.try_shutdown()
    assert profile().get('node') == 'stereo_node'
    optional = {'/front/detections_3d'}  # where vision_msgs is installed
    assert names('topics', 'publish', '/front', 'stereo_node') - optional == published - optional
    settings = {'/clock', *(f'/front/{side}/image_rect/compressed' for side in ('left', 'right'))}
    assert names('topics', 'subscribe', '/front', 'stereo_node') - settings == subscribed
    newer = {'/front/stereo_node/get_type_description'}  # than Humble
    assert names('services', 'reply', '/front', 'stereo_node') - newer == services - newer


def test_with_security_enforced_the_node_does_not_run_without_keys(tmp_path, monkeypatch, capfd):
    for name, value in {'ENABLE': 'true', 'STRATEGY': 'Enforce', 'KEYSTORE': tmp_path}.items():
        monkeypatch.setenv(f'ROS_SECURITY_{name}', str(value))
    assert main([]) == 1
    assert re.fullmatch('stereo_node: ROS does not start: .*SECURITY ERROR: directory .* does '
                        'not exist.*', capfd.readouterr().err.strip())
    (tmp_path / 'enclaves').mkdir()  # of a keystore without keys
    assert main([]) == 1
    assert re.search('^stereo_node: ', capfd.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize('name', ['', '../models', 'x' * 5000])
def test_a_path_that_is_no_model_ends_the_start_with_one_line(name, capfd):
    assert main(['--ros-args', '-p', f"model:='{name}'"]) == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith('stereo_node: ') and ('no model' in line or 'too long' in line)

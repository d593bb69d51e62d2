from dataclasses import fields

import pytest
import yaml

from svp_ros.resources import find_resource
from svp_ros.ros.parameters import change, descriptor, NodeSettings


def test_the_shipped_yaml_holds_every_parameter_with_its_default():
    text = find_resource('config/stereo.yaml').read_text()
    values = yaml.safe_load(text)['/**']['ros__parameters']
    values['classes'] = tuple(values['classes'])
    assert values == {entry.name: entry.default for entry in fields(NodeSettings)}
    assert all(type(values[entry.name]) is entry.type for entry in fields(NodeSettings))


@pytest.mark.parametrize('values, message', [
    ({'rectify': 'maybe'}, 'rectify must be one of auto, on, off, got "maybe"'),
    ({'confidence_threshold': 1.5}, 'confidence_threshold must be between 0.0 and 1.0, got 1.5'),
    ({'max_depth': float('nan')}, 'max_depth must be between'),
    ({'network_width': 32}, 'network_width must be between 64'),
    ({'min_depth': 5.0, 'max_depth': 4.0}, 'min_depth must be below max_depth, got 5.0 and 4.0')])
def test_bad_values_are_refused_with_the_reason(values, message):
    with pytest.raises(ValueError, match=message):
        NodeSettings(**values)


class Request:
    def __init__(self, name, value):
        self.name, self.value = name, value


def test_a_live_change_replaces_the_settings_and_a_refusal_keeps_them():
    settings = NodeSettings()
    changed, result = change(settings, [Request('max_depth', 20.0), Request('use_sim_time', True)],
                             active=True)
    assert result.successful and changed.max_depth == 20.0 and settings.max_depth == 100.0
    kept, result = change(changed, [Request('max_depth', 0.1)], active=True)
    assert not result.successful and kept is changed
    assert 'min_depth must be below max_depth' in result.reason


def test_what_the_subscriptions_are_made_of_changes_only_while_the_node_is_not_active():
    settings, wish = NodeSettings(), [Request('queue_size', 7)]
    kept, result = change(settings, wish, active=True)
    assert kept is settings and 'queue_size cannot change while the node is' in result.reason
    changed, result = change(settings, wish, active=False)
    assert result.successful and changed.queue_size == 7
    kept, result = change(changed, wish, active=True)  # no change
    assert result.successful


def test_a_network_is_what_decides_which_one_runs():
    settings = NodeSettings()
    assert set(settings.network) == {'model', 'device', 'engine', 'precision', 'network_height',
                                     'network_width'}
    assert settings.changed({'max_depth': 20.0}).network == settings.network
    assert settings.changed({'precision': 'bf16'}).network != settings.network
    assert settings.output_size is None
    assert settings.changed({'output_resolution': 'network'}).output_size == (640, 480)


def test_descriptors_carry_description_range_and_whether_it_is_live():
    described = {entry.name: descriptor(entry) for entry in fields(NodeSettings)}
    assert all(message.description for message in described.values())
    assert described['autostart'].read_only and not described['max_depth'].read_only
    assert described['network_height'].integer_range[0].from_value == 64
    assert described['confidence_threshold'].floating_point_range[0].to_value == 1.0
    assert 'auto, on, off' in described['rectify'].additional_constraints

"""What the ROS graph says about subscriptions: who publishes there, why nothing may arrive."""

from dataclasses import dataclass
import re

from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
from rclpy.subscription import Subscription

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
SUFFIX = '/compressed'  # of the topic beside a raw one, as image_transport has it
# Images that no camera makes, such as the outputs of a node like this.
NO_CAMERA = re.compile('depth|disparity|confidence|detection', re.IGNORECASE)


@dataclass(frozen=True)
class Connection:
    """The other end of one subscription.

    Args:
        topic: its resolved name.
        kind: message type that is subscribed, such as `sensor_msgs/msg/Image`.
        publishers: full names of the nodes that publish this type there.
        others: types that are published there instead.
        qos_problem: both sides' policies and the fix, if a publisher's do not fit, else empty.
        candidates: topics of the right type that have publishers but no place in this node.
        in_other_transport: topic with publishers that carries the same images, compressed if this
            is raw and raw if this is compressed; empty if there is none.
    """

    topic: str
    kind: str
    publishers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    qos_problem: str = ''
    candidates: tuple[str, ...] = ()
    in_other_transport: str = ''


def look_up(node: Node, subscriptions: dict[str, Subscription]) -> dict[str, Connection]:
    """Ask the graph about subscriptions of `node`, by any key."""
    kinds = {key: _type_name(subscription.msg_type)
             for key, subscription in subscriptions.items()}
    ours = {subscription.topic_name for subscription in subscriptions.values()}
    ours.update(publisher.topic_name for publisher in node.publishers)
    published = [(topic, types) for topic, types in node.get_topic_names_and_types()
                 if topic not in ours and not NO_CAMERA.search(topic)
                 and node.count_publishers(topic)]
    connections = {}
    for key, subscription in subscriptions.items():
        infos = node.get_publishers_info_by_topic(subscription.topic_name)
        fitting = [info for info in infos if info.topic_type == kinds[key]]
        problems = [_qos_problem(info, subscription) for info in fitting]
        connections[key] = Connection(
            subscription.topic_name, kinds[key],
            tuple(sorted({_node_name(info) for info in fitting})),
            tuple(sorted({info.topic_type for info in infos} - {kinds[key]})),
            next(filter(None, problems), '') if all(problems) else '',
            tuple(sorted(topic for topic, types in published if kinds[key] in types)),
            _in_other_transport(subscription.topic_name, kinds[key], dict(published)))
    return connections


def _in_other_transport(topic: str, kind: str, published: dict[str, list[str]]) -> str:
    if kind == COMPRESSED:
        other, wanted = topic.removesuffix(SUFFIX), IMAGE
    elif kind == IMAGE:
        other, wanted = topic + SUFFIX, COMPRESSED
    else:
        return ''
    return other if wanted in published.get(other, ()) else ''


def _qos_problem(info, subscription: Subscription) -> str:
    offered, asked = info.qos_profile, subscription.qos_profile
    compatibility, reason = qos_check_compatible(offered, asked)
    if compatibility != QoSCompatibility.ERROR:
        return ''
    text = (f'incompatible QoS on {subscription.topic_name}: {_node_name(info)} offers '
            f'{_describe(offered)}, this node asks for {_describe(asked)}')
    if 'reliab' in reason.lower():
        return (f'{text}; set qos_overrides.{subscription.topic_name}.subscription.reliability:='
                'best_effort or make the publisher reliable')
    return f'{text} ({reason.strip().rstrip(";")}); change the publisher'


def _describe(qos: QoSProfile) -> str:
    return f'{qos.reliability.short_key}, {qos.durability.short_key}'


def _node_name(info) -> str:
    if 'UNKNOWN' in info.node_name:  # its endpoint was discovered before the node itself
        return 'a node'
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def _type_name(class_: type) -> str:
    package, folder, _ = class_.__module__.split('.', 2)
    return f'{package}/{folder}/{class_.__name__}'

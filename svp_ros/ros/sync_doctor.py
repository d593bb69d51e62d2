"""Why no pair comes: the most likely cause, from counts, stamps and what the graph says.

Pure functions; the node asks once a second and shows the answer in its log and in /diagnostics.
"""

from collections import Counter
from dataclasses import dataclass
import difflib
from typing import Optional

from svp_ros.ros.connections import COMPRESSED, Connection, SUFFIX
from svp_ros.ros.sync import PairSynchronizer

PATIENCE_S = 2.0  # without a pair, before anything is said
LARGEST_TOLERANCE_S = 1.0  # what approximate_sync_tolerance takes
IMAGES = {side: f'{side}/image_rect' for side in ('left', 'right')}


@dataclass(frozen=True)
class Diagnosis:
    """The most likely cause; `cause` is one or two stable words, `error` tells it is no pause."""

    cause: str
    text: str
    error: bool = False


def diagnose(sync: PairSynchronizer, recent: Counter, connections: dict[str, Connection],
             now: float, clock_problem: str = '') -> Optional[Diagnosis]:
    """Name the most likely reason why no pair has come for PATIENCE_S; None while pairs come.

    Args:
        sync: the pairing, with its counts and times.
        recent: what it counted in the last second.
        connections: from `look_up`, by 'left/image_rect' and 'right/image_rect'; needed only when
            no pair has come for that long.
        now: time.monotonic.
        clock_problem: what is wrong with simulated time, empty if nothing is.
    """
    waited_s = now - sync.last['pair']
    if waited_s < PATIENCE_S:
        return Diagnosis('no clock', clock_problem) if clock_problem else None
    silent = [IMAGES[side] for side in IMAGES if now - sync.last[side] >= PATIENCE_S]
    found = (_wrong_types(connections, silent) or _qos(connections, silent)
             or _silent(sync, connections, silent, now, clock_problem)
             or _stamps(sync, recent, connections) or _offsets(sync, recent))
    return Diagnosis(found.cause, f'no pair for {waited_s:.0f} s: {found.text}', found.error)


def explain_silence(connection: Connection) -> str:
    """Say why nothing may arrive on a topic."""
    return (_wrong_type(connection) or connection.qos_problem or _no_publisher(connection)
            or f'{" and ".join(connection.publishers)} has a publisher of {connection.topic} that '
               'sends nothing; check that it runs and that its cable and bandwidth suffice')


def _wrong_types(connections: dict[str, Connection], silent: list[str]) -> Optional[Diagnosis]:
    texts = [text for key in silent if (text := _wrong_type(connections[key]))]
    return Diagnosis('swapped topics', '; '.join(texts), True) if texts else None


def _wrong_type(connection: Connection) -> str:
    if not connection.others or connection.publishers:
        return ''
    text = (f'topics are swapped: {connection.topic} carries {" and ".join(connection.others)}, '
            f'not {connection.kind}; ')
    if connection.kind == COMPRESSED:
        return text + 'set image_transport:=raw'
    if COMPRESSED in connection.others:
        text += 'set image_transport:=compressed'
        if not connection.topic.endswith(SUFFIX):
            text += f' and remap {connection.topic}{SUFFIX} to {connection.topic}'
        return text
    return text + 'check the remappings of images and camera_info'


def _qos(connections: dict[str, Connection], silent: list[str]) -> Optional[Diagnosis]:
    texts = [connections[key].qos_problem for key in silent if connections[key].qos_problem]
    return Diagnosis('incompatible QoS', '; '.join(texts), True) if texts else None


def _silent(sync: PairSynchronizer, connections: dict[str, Connection], silent: list[str],
            now: float, clock_problem: str) -> Optional[Diagnosis]:
    if not silent:
        return None
    if len(silent) == 2:
        if clock_problem:
            return Diagnosis('no clock', clock_problem)
        missing = list(filter(None, (_no_publisher(connections[key]) for key in silent)))
        if missing:
            return Diagnosis('no publisher', '; '.join(missing))
        return Diagnosis('both eyes silent', '; '.join(
            explain_silence(connections[key]) for key in silent))
    (key,) = silent
    (other,) = set(IMAGES.values()) - {key}
    silence_s = now - sync.last[key.partition('/')[0]]
    cause = 'one eye silent' if connections[key].publishers else 'no publisher'
    return Diagnosis(cause, (
        f'images come on {connections[other].topic}, but none on {connections[key].topic} for '
        f'{silence_s:.0f} s: {explain_silence(connections[key])}'))


def _no_publisher(connection: Connection) -> str:
    if connection.publishers:
        return ''
    text = f'nobody publishes {connection.topic}'
    if connection.in_other_transport:
        raw = connection.kind == COMPRESSED
        return (f'{text}, but the same images come on {connection.in_other_transport}: set '
                f'image_transport:={"raw" if raw else "compressed"}')
    if not connection.candidates:
        return (f'{text}, nor any other {connection.kind}: start the camera driver or the '
                'recording')
    near = difflib.get_close_matches(connection.topic, connection.candidates, 3, 0.3)
    text += f'; there is {" and ".join(near or connection.candidates[:3])}: '
    if connection.kind == COMPRESSED:
        return text + f'remap {connection.topic} to it'
    return text + 'remap to it'


def _stamps(sync: PairSynchronizer, recent: Counter,
            connections: dict[str, Connection]) -> Optional[Diagnosis]:
    frozen = sync.frozen()
    if not frozen and 2 * recent['late'] <= recent['left'] + recent['right']:
        return None
    one = f' on {connections[IMAGES[frozen[0]]].topic}' if len(frozen) == 1 else ''
    return Diagnosis('stamps stand still', (
        f'the stamps of the images{one} do not increase; check that the camera driver sets '
        'header.stamp'), True)


def _offsets(sync: PairSynchronizer, recent: Counter) -> Diagnosis:
    offsets = sync.offsets()
    lead_s = sync.lead()
    if abs(lead_s) > LARGEST_TOLERANCE_S:
        return Diagnosis('different clocks', (
            f'the stamps of right images are {abs(lead_s):.1f} s '
            f'{"later" if lead_s > 0 else "earlier"} than those of left ones that come at the '
            'same time: the cameras have different clocks, or one eye is delayed; synchronise '
            'them (PTP, NTP) or let one driver stamp both'), True)
    if offsets is None or offsets.largest <= sync.tolerance / 1e9:
        return Diagnosis('images lost', (
            f'images of both eyes come ({recent["left"]} left and {recent["right"]} right in the '
            f'last second) and their stamps would fit, but partners get lost or come '
            f'{abs(lead_s):.2f} s late; take config/fastdds.xml, reliable QoS or a larger '
            'queue_size'))
    needed_s = offsets.suggested_tolerance
    text = (f'stamps of left and right differ by {abs(offsets.median) * 1e3:.2f} ms (spread '
            f'{offsets.spread * 1e3:.2f} ms), ')
    if sync.tolerance:
        text += (f'more than approximate_sync_tolerance ({sync.tolerance / 1e9:g} s): '
                 f'set approximate_sync_tolerance:={needed_s:.4f}')
    else:
        text += ('and approximate_sync is off: set approximate_sync:=true and '
                 f'approximate_sync_tolerance:={needed_s:.4f}')
    if offsets.period is not None and offsets.spread > offsets.period / 4:
        text += ('; the cameras run freely, so moving things will get wrong depths: trigger them '
                 'together')
    return Diagnosis('offsets above the tolerance', text, True)

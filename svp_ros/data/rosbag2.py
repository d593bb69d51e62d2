"""Read and write rosbag2 recordings (sqlite3 and mcap); ROS is not needed."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
import struct
from typing import Any, NamedTuple, Optional, Union

from rosbags import interfaces
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

from svp_ros.data.vision_messages import DEFINITIONS

TYPESTORE = get_typestore(Stores.ROS2_JAZZY)
for _name in DEFINITIONS.keys() - TYPESTORE.types.keys():
    TYPESTORE.register(get_types_from_msg(DEFINITIONS[_name], _name))

MARKER_ARRAY = 'visualization_msgs/msg/MarkerArray'

_STORAGE = '.mcap', '.db3'
_COMPRESSIONS = {'file': CompressionMode.FILE, 'message': CompressionMode.MESSAGE,
                 'storage': CompressionMode.STORAGE}
_FOREVER = interfaces.QosTime(2147483647, 4294967295)
_RELIABLE = interfaces.Qos(
    history=interfaces.QosHistory.KEEP_LAST, depth=10,
    reliability=interfaces.QosReliability.RELIABLE,
    durability=interfaces.QosDurability.VOLATILE, deadline=_FOREVER, lifespan=_FOREVER,
    liveliness=interfaces.QosLiveliness.AUTOMATIC, liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False)


def is_recording(path: Union[str, Path]) -> bool:
    """Tell a recording (rosbag2 folder, .mcap or .db3 file) from a folder of images."""
    path = Path(path)
    files = path.iterdir() if path.is_dir() else [path]
    return any(file.suffix in _STORAGE or path != file and file.name == 'metadata.yaml'
               for file in files)


class RawMessage(NamedTuple):
    """One serialised message of a recording; `time` is when it was recorded, nanoseconds."""

    topic: str
    type: str
    time: int
    data: bytes

    @property
    def stamp(self) -> int:
        """Stamp of the Header that the message begins with, nanoseconds.

        That of a MarkerArray is the one of its first marker; without a marker it is -1.
        """
        start = 4
        if self.type == MARKER_ARRAY:
            start = 8  # behind the number of markers
            if len(self.data) < start + 8:
                return -1
        seconds, nanoseconds = struct.unpack_from('<iI' if self.data[1] & 1 else '>iI',
                                                  self.data, start)
        return seconds * 10**9 + nanoseconds


class BagReader:
    """Read a rosbag2 folder, .mcap or .db3 file; use it as a context manager.

    Attributes:
        types: dict of topic -> message type.
        counts: dict of topic -> number of messages.
        latched: topics whose publisher kept messages for late subscribers (transient local).

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If it is not a recording or cannot be read.
    """

    def __init__(self, path: Union[str, Path]):
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f'no recording {path}')
        if self.path.is_dir() and not (self.path / 'metadata.yaml').is_file():
            raise ValueError(f'{path} is not a rosbag2 folder: it has no metadata.yaml (a '
                             'recorder that was killed leaves none)')
        if self.path.is_file() and self.path.suffix not in _STORAGE:
            raise ValueError(f'{path} is not a recording; give a rosbag2 folder, .mcap or .db3 '
                             '(of a compressed recording, the folder)')
        try:
            self._reader = AnyReader([self.path], default_typestore=TYPESTORE)
            self._reader.open()
        except Exception as error:
            raise self._unreadable(error) from error
        self.types = {topic: info.msgtype or '' for topic, info in self._reader.topics.items()}
        self.counts = {topic: info.msgcount for topic, info in self._reader.topics.items()}
        self.latched = {
            connection.topic for connection in self._reader.connections
            if any(qos.durability is interfaces.QosDurability.TRANSIENT_LOCAL
                   for qos in connection.ext.offered_qos_profiles)}

    def __enter__(self) -> 'BagReader':
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def topics_of(self, type_: str) -> list[str]:
        """Return the topics of one message type, sorted."""
        return sorted(topic for topic, known in self.types.items() if known == type_)

    def resolve(self, topic: str) -> str:
        """Return the topic as this recording spells it (with or without leading slash).

        Raises:
            ValueError: If the recording has no such topic; the message lists those it has.
        """
        for name in (topic, '/' + topic.lstrip('/'), topic.lstrip('/')):
            if name in self.types:
                return name
        raise ValueError(f'{self.path} has no topic {topic}; it has '
                         f'{", ".join(sorted(self.types)) or "none"}')

    def raw(self, topics: Optional[Sequence[str]] = None) -> Iterator[RawMessage]:
        """Yield the serialised messages of some topics (default: all) as they were recorded."""
        wanted = None if topics is None else {self.resolve(topic) for topic in topics}
        connections = [connection for connection in self._reader.connections
                       if wanted is None or connection.topic in wanted]
        if not connections:
            return
        try:
            for connection, time, data in self._reader.messages(connections):
                yield RawMessage(connection.topic, connection.msgtype, time, bytes(data))
        except Exception as error:
            raise self._unreadable(error) from error

    def messages(self, topics: Optional[Sequence[str]] = None) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic, time of recording in nanoseconds, message)."""
        for raw in self.raw(topics):
            yield raw.topic, raw.time, self.decode(raw)

    def decode(self, raw: RawMessage) -> Any:
        """Deserialise one message.

        Raises:
            ValueError: If its bytes do not fit its type.
        """
        try:
            return self._reader.deserialize(raw.data, raw.type)
        except Exception as error:
            raise self._unreadable(f'a message of {raw.topic} is damaged: {error}') from error

    def _unreadable(self, error: object) -> ValueError:
        reason = str(error).strip() or type(error).__name__
        return ValueError(f'{self.path} cannot be read: {reason}')


class NearestMessages:
    """Messages of one topic, asked for by stamp in order of time.

    Args:
        bag: open recording.
        topic: as the recording spells it.
        tolerance: nanoseconds by which a stamp may differ from the one that is asked for.
    """

    def __init__(self, bag: BagReader, topic: str, tolerance: int = 0):
        self._messages = bag.raw([topic])
        self._tolerance = tolerance
        self._recent: deque[RawMessage] = deque()
        self._newest = -1

    def at(self, stamp: int) -> Optional[RawMessage]:
        """Return the message whose stamp is the nearest; None if none is near enough."""
        while self._newest <= stamp + self._tolerance:
            raw = next(self._messages, None)
            if raw is None:
                break
            self._recent.append(raw)
            self._newest = max(self._newest, raw.stamp)
        while self._recent and self._recent[0].stamp < stamp - self._tolerance:
            self._recent.popleft()
        nearest = min(self._recent, key=lambda raw: abs(raw.stamp - stamp), default=None)
        if nearest is None or abs(nearest.stamp - stamp) > self._tolerance:
            return None
        return nearest


class BagWriter:
    """Write a new rosbag2 folder message by message; use it as a context manager.

    Args:
        path: the folder to create.
        storage: 'mcap' or 'sqlite3'.
        compression: None, 'file' or 'message' as `ros2 bag record --compression-mode` has it, or
            'storage' for zstd chunks inside an mcap file, which all that reads mcap understands.

    Raises:
        ValueError: If the path exists already or the storage or compression is unknown.
    """

    def __init__(self, path: Union[str, Path], storage: str = 'mcap',
                 compression: Optional[str] = None):
        plugins = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
        if storage not in plugins:
            raise ValueError(f'storage must be mcap or sqlite3, got {storage!r}')
        if Path(path).exists():
            raise ValueError(f'{path} exists already; choose another folder or remove it')
        self.path = Path(path)
        self._writer = Writer(path, version=9, storage_plugin=plugins[storage])
        if compression:
            known = [name for name in _COMPRESSIONS if (name, storage) != ('storage', 'sqlite3')]
            if compression not in known:
                raise ValueError(f'compression of {storage} must be {", ".join(known[:-1])} or '
                                 f'{known[-1]}, got {compression!r}')
            self._writer.set_compression(_COMPRESSIONS[compression], CompressionFormat.ZSTD)
        self._connections = {}

    def __enter__(self) -> 'BagWriter':
        self._writer.open()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._writer.__exit__(*exception)

    def add_topic(self, topic: str, type_: str) -> None:
        """Announce a topic, so that it is listed even if no message follows.

        Raises:
            ValueError: If the message type is not known.
        """
        if type_ not in TYPESTORE.types:
            raise ValueError(f'{topic}: message type {type_} is not known; known are the types '
                             'of the common ROS 2 Jazzy packages')
        self._connections[topic] = self._writer.add_connection(
            topic, type_, typestore=TYPESTORE, offered_qos_profiles=[_RELIABLE])

    def write_raw(self, topic: str, time: int, data: bytes) -> None:
        """Append one serialised message of an announced topic; `time` in nanoseconds."""
        self._writer.write(self._connections[topic], time, data)

    def write(self, topic: str, time: int, message: Any) -> None:
        """Append one message (of `TYPESTORE.types`); `time` in nanoseconds."""
        if topic not in self._connections:
            self.add_topic(topic, message.__msgtype__)
        self.write_raw(topic, time, TYPESTORE.serialize_cdr(message, message.__msgtype__))

from threading import Thread
import time

import numpy as np
import pytest

from svp_ros.ros.sync import PairSynchronizer

MS = 1_000_000


def feed(sync, *items):
    for side, stamp in items:
        sync.add(side, stamp, f'{side}{stamp}')


def test_equal_stamps_pair_in_either_order_of_arrival():
    sync = PairSynchronizer()
    feed(sync, ('left', 10), ('right', 10))
    assert sync.take(0) == ('left10', 'right10')
    feed(sync, ('right', 20), ('left', 20))
    assert sync.take(0) == ('left20', 'right20')
    assert sync.take(0) is None


def test_exact_mode_refuses_one_nanosecond_of_difference():
    sync = PairSynchronizer()
    feed(sync, ('left', 10), ('right', 11))
    assert sync.take(0) is None


def test_the_slot_holds_the_newest_pair_and_counts_what_it_replaced():
    sync = PairSynchronizer()
    for stamp in (1, 2, 3):
        feed(sync, ('left', stamp), ('right', stamp))
    assert sync.take(0) == ('left3', 'right3')
    assert (sync.counts['paired'], sync.counts['replaced']) == (3, 2)


def test_images_older_than_a_pair_are_counted_as_unpaired_or_late():
    sync = PairSynchronizer()
    feed(sync, ('left', 1), ('left', 2), ('right', 2), ('right', 1))
    assert sync.take(0) == ('left2', 'right2')
    assert (sync.counts['unpaired left'], sync.counts['late']) == (1, 1)
    assert sync.counts['unpaired right'] == 0
    assert (sync.counts['left'], sync.counts['right']) == (2, 2)


def test_a_stream_without_partner_keeps_only_queue_size_images():
    sync = PairSynchronizer(queue_size=3)
    feed(sync, *(('left', stamp) for stamp in range(10)))
    assert sync.counts['unpaired left'] == 7
    feed(sync, ('right', 5))
    assert sync.take(0) is None
    feed(sync, ('right', 7))
    assert sync.take(0) == ('left7', 'right7')


def test_approximate_mode_takes_the_nearest_within_tolerance():
    sync = PairSynchronizer(tolerance=10 * MS)
    feed(sync, ('left', 0), ('left', 33 * MS), ('right', 29 * MS))
    assert sync.take(0) == (f'left{33 * MS}', f'right{29 * MS}')
    assert sync.offsets().median == pytest.approx(-0.004)
    feed(sync, ('left', 66 * MS), ('right', 77 * MS))
    assert sync.take(0) is None


@pytest.mark.parametrize('queue_size', [3, 100])
@pytest.mark.parametrize('offset', [4 * MS, -4 * MS, 5000 * MS])
def test_the_offset_of_unpaired_streams_is_measured(offset, queue_size):
    sync = PairSynchronizer(queue_size=queue_size)
    assert sync.offsets() is None
    for frame in range(8):
        feed(sync, ('left', frame * 33 * MS), ('right', frame * 33 * MS + offset))
    assert sync.take(0) is None
    assert sync.offsets().median == pytest.approx(offset / 1e9)


def test_every_image_is_paired_late_unpaired_or_waiting():
    sync = PairSynchronizer(queue_size=3)
    generator = np.random.default_rng(0)
    for stamp in generator.integers(0, 60, 500):
        feed(sync, (('left', 'right')[generator.integers(2)], int(stamp) * MS))
    feed(sync, ('left', 10**12), ('right', 10**12 + 1), ('left', 0), ('right', 1))  # a loop
    counts = sync.counts
    assert counts['left'] + counts['right'] == 504
    assert (2 * counts['paired'] + counts['late'] + counts['unpaired left']
            + counts['unpaired right']) == 502  # the last two wait
    assert sync.take(0) is None and counts['replaced'] == counts['paired']


def test_stamps_that_jump_back_start_afresh():
    sync = PairSynchronizer()
    feed(sync, ('left', 100_000 * MS), ('right', 100_000 * MS))
    assert sync.take(0)
    feed(sync, ('left', 5 * MS), ('right', 5 * MS))
    assert sync.take(0) == (f'left{5 * MS}', f'right{5 * MS}')
    assert sync.counts['jumps back'] == 2


@pytest.mark.parametrize('order', ['llrr', 'lrlr', 'rlrl'])
def test_no_pair_is_lost_when_the_eyes_jump_back_one_after_the_other(order):
    sync, stamps = PairSynchronizer(), {'l': [5, 6], 'r': [5, 6]}
    feed(sync, ('left', 100_000 * MS), ('right', 105_000 * MS))
    for side in order:
        feed(sync, ({'l': 'left', 'r': 'right'}[side], stamps[side].pop(0) * MS))
    assert sync.counts['paired'] == 2 and sync.take(0) == (f'left{6 * MS}', f'right{6 * MS}')


def test_images_from_before_a_jump_back_are_not_paired_with_those_after_it():
    sync = PairSynchronizer()
    feed(sync, ('left', 10_500 * MS), ('left', 20_000 * MS), ('left', 10_000 * MS),
         ('right', 10_500 * MS))
    assert sync.take(0) is None and sync.counts['unpaired left'] == 2


def test_what_waits_is_dropped_and_counted_when_asked():
    sync = PairSynchronizer()
    feed(sync, ('left', 1), ('right', 1), ('left', 2))
    sync.clear()
    assert sync.take(timeout=0) is None
    assert (sync.counts['replaced'], sync.counts['unpaired left']) == (1, 1)
    feed(sync, ('left', 3), ('right', 3))
    assert sync.take(timeout=0) is not None


def test_take_wakes_up_for_a_pair_and_for_close():
    sync = PairSynchronizer()
    taken = []

    def work():
        while (pair := sync.take()) is not None:
            taken.append(pair)
            time.sleep(0.05)

    worker = Thread(target=work)
    worker.start()
    start = time.monotonic()
    for stamp in range(5):
        feed(sync, ('left', stamp), ('right', stamp))
    assert time.monotonic() - start < 0.04, 'add must not wait for a pair in progress'
    time.sleep(0.2)
    sync.close()
    worker.join(1)
    assert not worker.is_alive()
    assert taken[-1] == ('left4', 'right4')
    assert len(taken) + sync.counts['replaced'] == 5

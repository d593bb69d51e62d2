"""Faults provoked over the real middleware, one node for most of them; see faults.py."""

from pathlib import Path
import re
import shutil
import time

from diagnostic_msgs.msg import DiagnosticStatus
from endings import ENDS
from fault_driver import Driver
from faults import FAULTS, render
import pytest
from stereo_rig import Rig

from svp_ros.ros.conversions import nanoseconds

pytestmark = pytest.mark.alone

HERE = Path(__file__).parent
ALL = [fault for faults in FAULTS.values() for fault in faults]
LEVELS = {DiagnosticStatus.OK: 'OK', DiagnosticStatus.WARN: 'WARN',
          DiagnosticStatus.ERROR: 'ERROR'}


@pytest.fixture(scope='module')
def driver(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp('faults')
    model = Path(shutil.copy(tiny_model, folder))
    rig = Rig('-p', f'model:={model}', '-p', 'network_height:=64', '-p', 'network_width:=96',
              log=folder / 'stderr', program=[HERE / 'faulty_node.py'])
    try:
        rig.wait_until_ready()
        rig.listen('disparity')
        yield Driver(rig, model)
    finally:
        rig.close()


def matches(text, said):
    return re.fullmatch(re.escape(text).replace('…', '.+?'), said, re.DOTALL)


def heard(driver, fault, log_before):
    """Level and text of what the node says now where the fault expects it."""
    if fault.where == 'log':
        record = re.search(r'callback failed.*?(?=\n\[|\Z)',
                           driver.rig.log.read_text()[log_before:], re.DOTALL)
        return fault.level, record[0].strip() if record else ''
    if not driver.rig.diagnostics:
        return '', ''
    level, text, _ = driver.rig.read_diagnostic(fault.where)
    return LEVELS[level], text.replace(f'/{driver.rig.namespace}', '')


@pytest.mark.parametrize('fault', ALL, ids=lambda fault: fault.name.replace(' ', '_'))
def test_a_fault_is_named_and_the_next_good_pair_is_answered(driver, fault):
    rig, answers = driver.rig, driver.rig.received['disparity']
    answer(driver)
    log_before, reports, named = len(rig.log.read_text()), set(), False
    driver.round = 0
    fault.begin(driver)
    answers.clear()
    rig.diagnostics = {}
    deadline = time.monotonic() + 40
    while True:
        fault.provoke(driver)
        rig.spin_for(0.1)
        level, text = heard(driver, fault, log_before)
        reports.add((level, text))
        said = level == fault.level and bool(matches(fault.says, text))
        named = said or named and fault.level != 'OK'  # what was fine before must still be so
        if named and (not fault.answered or answers and fault.check(answers[-1])):
            break
        assert time.monotonic() < deadline, f'{len(answers)} answers, said {reports}'
    sent = []
    if fault.published.startswith('every pair'):
        sent = [answer(driver, fault.provoke, fault.check) for _ in range(3)]
    if not fault.answered:
        answers.clear()
        for _ in range(3):
            fault.provoke(driver)
            rig.spin_for(0.02)
    fault.undo(driver)
    sent.append(answer(driver))
    stamps = [nanoseconds(message.header.stamp) for message in answers]
    assert stamps[-len(sent):] == sent, 'a pair was not answered once and in its turn'
    assert len(set(stamps)) == len(stamps), 'a pair was answered twice'
    assert fault.answered or len(stamps) == 1


def answer(driver, provoke=Driver.send, check=lambda message: True):
    """Send a pair, wait until it is answered as it must be, and return its stamp."""
    provoke(driver)
    stamp = driver.last
    assert driver.rig.spin_until(lambda: any(
        nanoseconds(message.header.stamp) == stamp and check(message)
        for message in driver.rig.received['disparity'])), f'no answer to pair {stamp}'
    return stamp


@pytest.mark.parametrize('ending', ENDS, ids=lambda ending: ending.name.replace(' ', '_'))
def test_a_process_that_ends_says_why(ending, tmp_path, tiny_model, signal_handlers):
    code, text = ending.run(tmp_path, tiny_model)
    assert code == ending.code and matches(ending.says, text), text


def test_the_table_in_the_documentation_is_up_to_date():
    assert (HERE.parent / 'docs/reliability.md').read_text() == render(), (
        'run: python test/faults.py > docs/reliability.md')
    assert len(ALL) + len(ENDS) >= 30

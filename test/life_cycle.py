"""Calls of the life-cycle services of the node of a rig."""

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

TRANSITIONS = {'configure': Transition.TRANSITION_CONFIGURE,
               'cleanup': Transition.TRANSITION_CLEANUP,
               'activate': Transition.TRANSITION_ACTIVATE,
               'deactivate': Transition.TRANSITION_DEACTIVATE,
               'shutdown': Transition.TRANSITION_ACTIVE_SHUTDOWN}


def state(rig):
    """Label of the state of the node."""
    return rig.call(GetState, 'stereo_node/get_state', GetState.Request()).current_state.label


def request(transition):
    return ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))


def change(rig, transition):
    """Whether a transition was successful."""
    return rig.call(ChangeState, 'stereo_node/change_state', request(transition), 60).success

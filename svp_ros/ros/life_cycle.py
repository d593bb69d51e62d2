"""A managed node whose transitions say why they fail."""

import traceback
from typing import Optional

from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

EXPECTED = ValueError, OSError, RuntimeError, ParameterException  # from CUDA and rcl, too


class ManagedNode(LifecycleNode):
    """A life-cycle node; subclasses override `configure`, `activate` and what undoes them.

    These raise what went wrong. The transition then fails: what it had begun is undone, the node
    stays in the `state` it was in, and the reason is in `failure` and in the log.
    `deactivate` and `cleanup` have to work after a part of `activate` or `configure`, too.
    """

    def __init__(self, name: str, **options):
        super().__init__(name, **options)
        self.state = 'unconfigured'
        self.failure: Optional[Exception] = None
        self._starting = False
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    def configure(self) -> None:
        """Acquire what the node needs."""

    def activate(self) -> None:
        """Start to work."""

    def deactivate(self) -> None:
        """Stop to work."""

    def cleanup(self) -> None:
        """Release what `configure` acquired."""

    def autostart(self) -> None:
        """Configure and activate the node; raises what its first failing transition raised."""
        self._starting = True
        try:
            for trigger in (self.trigger_configure, self.trigger_activate):
                if trigger() != TransitionCallbackReturn.SUCCESS:
                    raise self.failure
        finally:
            self._starting = False

    def on_configure(self, _) -> TransitionCallbackReturn:
        """Answer the transition from unconfigured to inactive."""
        return self._attempt('configure', self.configure, 'inactive', undo=self.cleanup)

    def on_activate(self, _) -> TransitionCallbackReturn:
        """Answer the transition from inactive to active."""
        return self._attempt('activate', self.activate, 'active', undo=self.deactivate)

    def on_deactivate(self, _) -> TransitionCallbackReturn:
        """Answer the transition from active to inactive."""
        return self._attempt('deactivate', self.deactivate, 'inactive')

    def on_cleanup(self, _) -> TransitionCallbackReturn:
        """Answer the transition from inactive to unconfigured."""
        return self._attempt('cleanup', self.cleanup, 'unconfigured')

    def on_shutdown(self, _) -> TransitionCallbackReturn:
        """Answer the transition from any state to finalized."""
        return self._attempt('shutdown', self._release_all, 'finalized')

    def _on_change_state(self, request, response):
        """Refuse what is no transition of this state; rclpy would not answer at all."""
        try:
            return self._change_state(request, response)
        except RuntimeError as error:  # RCLError
            wish = request.transition.label or request.transition.id
            self.get_logger().error(f'no transition {wish} from {self.state}: {error}')
            response.success = False
            return response

    def _release_all(self) -> None:
        self.deactivate()
        self.cleanup()

    def _attempt(self, name: str, step, state: str, undo=None) -> TransitionCallbackReturn:
        try:
            step()
        except Exception as error:  # rclpy would end in the error state without a word
            reason = error if isinstance(error, EXPECTED) else traceback.format_exc()
            if not self._starting:
                self.get_logger().error(f'{name} failed: {reason}')
            self.failure = error.with_traceback(None)  # whose frames would keep a network alive
            if undo is not None:
                undo()
            return TransitionCallbackReturn.FAILURE
        self.state, self.failure = state, None
        return TransitionCallbackReturn.SUCCESS

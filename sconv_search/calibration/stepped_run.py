"""A run of a network that stops at each call of chosen modules and is told from outside what the call gives.

So many runs of one network can go forward side by side, from one layer to the next, and each image passes each layer
once: between two stops a run holds what its own forward holds, and nothing is computed twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from sconv_search.compressor import site
from sconv_search.copying import copied, without_hooks


class _Closed(BaseException):
    """Ends a run that nobody waits for any more; not an Exception, so that no network handles it."""


class Stepped:
    """A copy of a network, in evaluation mode, whose runs stop at the named modules."""

    def __init__(self, network: nn.Module, names: Iterable[str]) -> None:
        self._network = copied(network).eval()
        self._current = threading.local()
        self._originals = {name: without_hooks(site(self._network, name)) for name in names}
        for name in self._originals:
            self._stop_at(name)

    def original(self, name: str) -> nn.Module:
        """The named module as it was, with the parameters and buffers of the one in the network, but without its hooks:
        these run in the network, on what the module is given and on what it gives.
        """
        return self._originals[name]

    def _stop_at(self, name: str) -> None:
        def forward(*positional: Any, **named: Any) -> Any:
            run: SteppedRun = self._current.run
            return run._stopped(name, next(x for x in (*positional, *named.values()) if isinstance(x, Tensor)))

        site(self._network, name).forward = forward  # the attributes stay: a network may read its layers' weights


class SteppedRun:
    """One run on one batch, without gradients; a context, at whose end it is given up.

    Attributes:
        name: of the module that the run waits at; None once the network has returned.
        x: the first tensor that the module is given.
        output: what the network returned.

    The forward runs in a thread of its own, because a forward is ordinary code that cannot be left and entered again;
    only one of the two threads runs at any time.
    """

    def __init__(self, stepped: Stepped, batch: Tensor) -> None:
        self.name: str | None = None
        self.x = batch
        self.output: Any = None
        self._given: SimpleQueue[Any] = SimpleQueue()
        self._reached: SimpleQueue[tuple[str | None, Tensor] | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(stepped, batch), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given.put(_Closed())
        self._thread.join()

    def resume(self, output: Tensor) -> None:
        """Goes on with what the module is to have given, up to the next stop.

        Raises:
            Exception: what the network's forward raised.
        """
        self.x = output[:0]  # what it was given may go
        self._given.put(output)
        self._wait()

    def _wait(self) -> None:
        reached = self._reached.get()
        if isinstance(reached, BaseException):
            raise reached
        self.name, self.x = reached

    def _run(self, stepped: Stepped, batch: Tensor) -> None:
        stepped._current.run = self
        try:
            with torch.no_grad():
                self.output = stepped._network(batch.clone())  # a forward may write over what it is given
        except _Closed:
            return
        except BaseException as error:  # raised where the run is waited for
            self._reached.put(error)
        else:
            self._reached.put((None, batch))

    def _stopped(self, name: str, x: Tensor) -> Any:
        self._reached.put((name, x))
        given = self._given.get()
        if isinstance(given, _Closed):
            raise given
        return given

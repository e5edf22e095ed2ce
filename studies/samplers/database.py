"""The Optuna study in a PostgreSQL database, for one command at a time, which an outage of the database does not end.

The records in the run's folder stay what counts. The database holds each of them, too, so that either restores the
other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from sconv_search.strict_json import shortened
from sconv_search.studies.samplers.mirror import STATUS
from sconv_search.studies.spec import StudySpec
from sconv_search.system.packages import require_package

SCHEME = "postgresql+psycopg"
MOST_S, WAIT_S = 300.0, 1.0
"""A database that does not answer is asked again for so long, at such intervals."""
SPEC = "spec"
KEEPALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""The server notices within a minute that the machine of a command, which held the study, is gone."""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(:name, 2008))"
_MAKING_TABLES = "SELECT pg_advisory_lock(2008)", "SELECT pg_advisory_unlock(2008)"
Say = Callable[[str], None]


class DatabaseLost(RuntimeError):
    """The database did not answer for too long, or another command took the study over."""


class StudyDatabase:
    """A database with a study under each run's name.

    Args:
        url: ``postgresql+psycopg://USER@HOST:PORT/DATABASE``; a password is better left to PGPASSWORD or a file.
        say: is told of outages.
        most_s: seconds that an outage may last.

    Raises:
        ValueError: the URL is none of PostgreSQL, or a package is missing.
    """

    def __init__(self, url: str, say: Say = lambda text: None, *, most_s: float = MOST_S) -> None:
        self._sql: Any = require_package("sqlalchemy", "cluster", "a study in a database needs")
        try:
            self._url = self._sql.make_url(url)
        except self._sql.exc.ArgumentError as error:
            raise ValueError(f"a database is {SCHEME}://USER@HOST:PORT/DATABASE; that given is no URL") from error
        if self._url.drivername != SCHEME or not self._url.database:
            raise ValueError(f"a database is {SCHEME}://USER@HOST:PORT/DATABASE, got {self.shown!r}")
        require_package("psycopg", "cluster", "a study in a database needs")
        self._say, self._most_s, self._name = say, most_s, ""
        self._held: Any = None
        self._storage: Any = None
        connect = {"connect_timeout": 10, "application_name": "sconv-search", "options": KEEPALIVE}
        self._engine = self._sql.create_engine(
            self._url, poolclass=self._sql.pool.NullPool, isolation_level="AUTOCOMMIT", connect_args=connect
        )
        self._options = {"pool_pre_ping": True, "connect_args": connect}

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return str(self._url.render_as_string(hide_password=True))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the study of that name for this process; the database frees it when the process or its machine is gone.

        Raises:
            RuntimeError: another command holds it.
            ValueError: the database cannot be used; the reason is its own.
        """
        self._name = name
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._held = self._engine.connect()
            if not self._locks():
                raise RuntimeError(f"another command is working on the study {name!r} in {self.shown}")
            self._held.execute(self._sql.text(_MAKING_TABLES[0]))  # of two commands that make them at once, one fails
            self._storage = _Patient(self._url, self._options, self._patiently)
            self._held.execute(self._sql.text(_MAKING_TABLES[1]))
        except (self._sql.exc.SQLAlchemyError, StorageInternalError) as error:
            self._release()
            raise ValueError(f"the database {self.shown} cannot be used: {_reason(error)}") from error
        except BaseException:
            self._release()
            raise
        try:
            yield
        finally:
            self._release()
            self._storage.remove_session()
            self._storage.engine.dispose()

    def _release(self) -> None:
        if self._held is not None:
            self._held.invalidate()  # closes the connection, which frees the lock
            self._held.close()
            self._held = None

    def adopt(self, spec: StudySpec, *, overwrite: bool = False) -> None:
        """Makes the study of the run's name this one, or makes sure that it is.

        Args:
            overwrite: whether another study is deleted; one without any result is.

        Raises:
            ValueError: another study has the name.
        """
        if self._name in optuna.get_all_study_names(self._storage):
            study = optuna.load_study(study_name=self._name, storage=self._storage)
            known = study.user_attrs.get(SPEC)
            changed = (
                ["it was made by something else"] if known is None else spec.differences(StudySpec.from_json(known))
            )
            if changed:
                if not overwrite and any(STATUS in trial.user_attrs for trial in study.get_trials(deepcopy=False)):
                    raise ValueError(
                        f"the database {self.shown} holds another study {self._name!r}:"
                        f" {shortened('; '.join(changed), 300)}; name another folder with --out, or replace it with"
                        " --overwrite"
                    )
                optuna.delete_study(study_name=self._name, storage=self._storage)
        self._spec = spec.to_json()

    def spec(self) -> StudySpec | None:
        """What the study of the run's name is, where there is one of ours."""
        if self._name not in optuna.get_all_study_names(self._storage):
            return None
        text = optuna.load_study(study_name=self._name, storage=self._storage).user_attrs.get(SPEC)
        return None if text is None else StudySpec.from_json(text)

    def study(self, directions: Sequence[StudyDirection]) -> optuna.Study:
        """The study, made now if there is none."""
        study = optuna.create_study(
            study_name=self._name, storage=self._storage, directions=list(directions), load_if_exists=True
        )
        study.set_user_attr(SPEC, self._spec)
        return study

    def require_held(self) -> None:
        """Makes sure that the study is still this command's: an outage has freed it.

        Raises:
            DatabaseLost: another command took it.
        """
        self._patiently(self._hold, ())

    def _hold(self) -> None:
        if self._held is not None:
            try:
                self._held.execute(self._sql.text("SELECT 1"))
                return
            except self._sql.exc.SQLAlchemyError:
                self._release()
        self._held = self._engine.connect()
        if not self._locks():
            raise DatabaseLost(
                f"another command took over the study {self._name!r} in {self.shown} while the database did not answer"
            )

    def _locks(self) -> bool:
        locked = self._held.execute(self._sql.text(_LOCK), {"name": f"sconv-search {self._name}"})
        return bool(locked.scalar_one())

    def _patiently(self, work: Callable[..., Any], arguments: Sequence[Any], **options: Any) -> Any:
        """Does work on the database, again and again while that does not answer.

        Raises:
            DatabaseLost: it took too long.
        """
        began, said = time.monotonic(), False
        while True:
            try:
                result = work(*arguments, **options)
            except (StorageInternalError, self._sql.exc.OperationalError, self._sql.exc.InterfaceError) as error:
                passed = time.monotonic() - began
                if not _is_outage(error) or passed > self._most_s:
                    raise DatabaseLost(
                        f"the database {self.shown} did not answer for {passed:.0f} s: {_reason(error)}; all records"
                        " are in the run's folder, and the same command continues"
                    ) from error
                if not said:
                    self._say(f"the database does not answer ({_reason(error)}); tried again for {self._most_s:.0f} s")
                said = True
                time.sleep(WAIT_S)
            except UpdateFinishedTrialError:
                if not said:
                    raise
                return True  # the attempt before was done when its answer was lost
            else:
                if said:
                    self._say(f"the database answers again, after {time.monotonic() - began:.0f} s")
                return result


class _Patient(RDBStorage):
    """Optuna's storage, whose every operation waits for a database that does not answer.

    A trial that was made when the answer was lost is made twice; the first one stays without a number of ours, and
    counts as interrupted.
    """

    def __init__(self, url: Any, options: dict[str, Any], patiently: Callable[..., Any]) -> None:
        self._patiently: Callable[..., Any] | None = None
        super().__init__(url.render_as_string(hide_password=False), engine_kwargs=options)
        self._patiently = patiently


def _waiting(name: str) -> Callable[..., Any]:
    work = getattr(RDBStorage, name)

    @wraps(work)
    def waits(self: _Patient, *arguments: Any, **options: Any) -> Any:
        patiently = self._patiently
        if patiently is None:  # within another operation, which waits
            return work(self, *arguments, **options)
        self._patiently = None
        try:
            return patiently(work, (self, *arguments), **options)
        finally:
            self._patiently = patiently

    return waits


for _name in (
    *("create_new_study", "delete_study", "get_all_studies", "get_study_directions", "get_study_id_from_name"),
    *("get_study_name_from_id", "get_study_system_attrs", "get_study_user_attrs", "set_study_system_attr"),
    *("set_study_user_attr", "_create_new_trial", "_get_trials", "_set_trial_param", "get_trial", "set_trial_param"),
    *("get_trial_id_from_study_id_trial_number", "set_trial_intermediate_value", "set_trial_state_values"),
    *("set_trial_system_attr", "set_trial_user_attr", "_get_best_trial_id"),
):
    setattr(_Patient, _name, _waiting(_name))


def _is_outage(error: BaseException) -> bool:
    """Whether a failure is of the connection, and not of what was asked."""
    known = {type(cause).__name__ for cause in _chain(error)}
    return bool(known & {"OperationalError", "InterfaceError"})


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _reason(error: BaseException) -> str:
    """What the database itself said, in a line; psycopg's last line is the one of the last address that it tried."""
    last = list(_chain(error))[-1]
    text = str(getattr(last, "orig", None) or last).strip().splitlines()
    return shortened(next((line.strip() for line in text if line.strip()), type(last).__name__), 200)

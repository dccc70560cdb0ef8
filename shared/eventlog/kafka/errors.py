"""What each of aiokafka's errors means to Rejse: one table, and nothing outside of it.

Whether a failed append was refused for ever or may be sent again, and whether a reader should retry, is
read from here alone. A class that a new release adds has no entry, and a test fails until it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiokafka import errors

from shared.errors import ConfigError, LogReplaced, Permanent, RejseError, Transient

_AWAY_OR_BUSY = (
    errors.KafkaError,
    errors.NoBrokersAvailable,
    errors.NodeNotReadyError,
    errors.KafkaProtocolError,
    errors.CorrelationIdError,
    errors.Cancelled,
    errors.TooManyInFlightRequests,
    errors.StaleMetadata,
    errors.MetadataEmptyBrokerList,
    errors.KafkaUnavailableError,
    errors.KafkaTimeoutError,
    errors.KafkaConnectionError,
    errors.QuotaViolationError,
    errors.BrokerResponseError,
    # The code of every error that this release of aiokafka doesn't know: nothing follows from it.
    errors.UnknownError,
    errors.UnknownTopicOrPartitionError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.RequestTimedOutError,
    errors.BrokerNotAvailableError,
    errors.ReplicaNotAvailableError,
    errors.StaleControllerEpochError,
    errors.StaleLeaderEpochCodeError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    errors.NotControllerError,
    errors.OperationNotAttempted,
    errors.KafkaStorageError,
    errors.LogDirNotFound,
    errors.ReassignmentInProgress,
    errors.FetchSessionIdNotFound,
    errors.InvalidFetchSessionEpoch,
    errors.ListenerNotFound,
    # Bits flipped on the way or on disk: read or sent again, they may be right.
    errors.CorruptRecordException,
    # A broker whose clock is far from ours refuses our timestamps; the records are not to blame.
    errors.InvalidTimestampError,
)
_THE_PRODUCER_IS_SPENT = (
    errors.ProducerClosed,
    errors.ProducerFenced,
    errors.OutOfOrderSequenceNumber,
    errors.DuplicateSequenceNumber,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.UnknownProducerId,
)
_THE_GROUP_IS_MOVING = (
    errors.IllegalStateError,
    errors.CommitFailedError,
    errors.ConsumerStoppedError,
    errors.NoOffsetForPartitionError,
    errors.GroupLoadInProgressError,
    errors.GroupCoordinatorNotAvailableError,
    errors.NotCoordinatorForGroupError,
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    errors.MemberIdRequired,
    errors.NonEmptyGroup,
    errors.GroupIdNotFound,
)
_SOMEBODY_WAS_FIRST = (errors.TopicAlreadyExistsError,)
_THE_RECORD_IS_REFUSED = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.RecordTooLargeError,
)
_OUTSIDE_THE_LOG = (errors.OffsetOutOfRangeError,)
_SET_UP_WRONGLY = (
    errors.UnrecognizedBrokerVersion,
    errors.IncompatibleBrokerVersion,
    errors.AuthenticationMethodNotSupported,
    errors.AuthenticationFailedError,
    errors.UnsupportedCodecError,
    errors.KafkaConfigurationError,
    errors.InvalidTopicError,
    errors.InconsistentGroupProtocolError,
    errors.InvalidGroupIdError,
    errors.InvalidSessionTimeoutError,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.SaslAuthenticationFailed,
    errors.SecurityDisabled,
    errors.UnsupportedVersionError,
    errors.UnsupportedForMessageFormatError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidReplicationAssignmentError,
    errors.InvalidConfigurationError,
    errors.PolicyViolationError,
    errors.DelegationTokenAuthDisabled,
    errors.DelegationTokenNotFound,
    errors.DelegationTokenOwnerMismatch,
    errors.DelegationTokenRequestNotAllowed,
    errors.DelegationTokenAuthorizationFailed,
    errors.DelegationTokenExpired,
    errors.InvalidPrincipalType,
)
_A_BUG_OF_OURS = (
    errors.IllegalArgumentError,
    errors.IllegalOperation,
    errors.NoError,
    errors.InvalidFetchRequestError,
    errors.InvalidRequestError,
    errors.InvalidRequiredAcksError,
    errors.OffsetMetadataTooLargeError,
    errors.InvalidCommitOffsetSizeError,
    # Transactions are not used.
    errors.InvalidTxnState,
    errors.InvalidTransactionTimeout,
    errors.ConcurrentTransactions,
    errors.TransactionCoordinatorFenced,
)


def _rows(
    classes: Iterable[type[Exception]], meaning: type[RejseError] | None
) -> dict[type[Exception], type[RejseError] | None]:
    return dict.fromkeys(classes, meaning)


MEANING: Mapping[type[Exception], type[RejseError] | None] = {
    **_rows(_AWAY_OR_BUSY, Transient),
    **_rows(_THE_PRODUCER_IS_SPENT, Transient),
    **_rows(_THE_GROUP_IS_MOVING, Transient),
    **_rows(_SOMEBODY_WAS_FIRST, Transient),
    **_rows(_THE_RECORD_IS_REFUSED, Permanent),
    **_rows(_OUTSIDE_THE_LOG, LogReplaced),
    **_rows(_SET_UP_WRONGLY, ConfigError),
    **_rows(_A_BUG_OF_OURS, None),
}
"""Every class of `aiokafka.errors`; None stands for a bug of ours, which is raised as it is."""


DRIVER_ERRORS = (errors.KafkaError, OSError, RuntimeError)
"""What a call of the driver may raise and `translated` has an answer to."""


def came_too_late(error: Exception) -> bool:
    """Whether an error is uvloop's for a write to a connection that has just been closed, which the driver
    doesn't know yet: asyncio's own transports say nothing there, and the driver expects an OSError."""
    return type(error) is RuntimeError and str(error).endswith("the handler is closed")


def translated(error: Exception) -> Exception:
    """The error of our tree that stands for a driver's error, or the error itself where that is a bug.

    A network error or a timeout below the driver counts as the log being away.
    """
    if isinstance(error, OSError) or came_too_late(error):
        return Transient(f"Kafka is away: {type(error).__name__}")
    for kind in type(error).__mro__:
        if kind in MEANING:
            meaning = MEANING[kind]
            return error if meaning is None else meaning(f"Kafka: {type(error).__name__}")
    return error


def is_refusal(error: type[Exception]) -> bool:
    """Whether an error says that the records are to blame, and the same bytes will never be kept."""
    return issubclass(error, _THE_RECORD_IS_REFUSED)

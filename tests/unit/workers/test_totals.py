"""Counters that outlive the connection that counted them."""

from __future__ import annotations

from ipc.stats import AnyRecord, CandidatePair, OutboundRtp, WorkerPort
from workers.totals import COUNTED, Totals


def outbound(packets: int, *, ssrc: int = 1, nacks: int = 0) -> AnyRecord:
    return OutboundRtp(
        id="outbound-audio",
        timestamp=1.0,
        kind="audio",
        ssrc=ssrc,
        packets_sent=packets,
        bytes_sent=10 * packets,
        nack_count=nacks,
        pli_count=0,
        fir_count=0,
    )


def pair(answers: int) -> AnyRecord:
    return CandidatePair(
        id="candidate-pair",
        timestamp=1.0,
        local_candidate_id="l",
        remote_candidate_id="r",
        state="succeeded",
        nominated=True,
        responses_received=answers,
    )


def test_the_first_connection_counts_for_itself() -> None:
    totals = Totals()
    records = [outbound(5), pair(2)]
    assert totals.add(records) == records


def test_the_next_one_counts_on_and_what_is_of_the_moment_is_its_own() -> None:
    totals = Totals()
    totals.add([outbound(3)])
    totals.keep([outbound(5, nacks=1)])
    assert totals.add([outbound(1, ssrc=2)]) == [outbound(6, ssrc=2, nacks=1)]
    totals.keep([outbound(2, ssrc=2)])
    assert totals.add([outbound(0, ssrc=3)]) == [outbound(7, ssrc=3, nacks=1)]


def test_a_record_that_is_gone_at_the_end_counts_as_it_was_told_last() -> None:
    totals = Totals()
    totals.add([pair(7)])
    totals.keep([])
    assert totals.add([pair(1)]) == [pair(8)]


def test_other_records_pass() -> None:
    port = WorkerPort(id="w", timestamp=1.0, datagrams_received=3, datagrams_dropped={})
    totals = Totals()
    totals.keep([port])
    assert totals.add([port]) == [port]


def test_only_whole_numbers_are_summed() -> None:
    for kind, names in COUNTED.items():
        annotations = kind.__annotations__
        assert {annotations[name] for name in names} == {"int"}, kind

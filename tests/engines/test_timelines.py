"""Recordings that are linked, directly or through others, lie on one timeline."""

from __future__ import annotations

from engines.timelines import Link, lay_out


def test_unlinked_recordings_are_on_no_timeline() -> None:
    assert lay_out([]) == []


def test_copies_of_copies_lie_on_one_timeline_whatever_the_order() -> None:
    links = [Link(4, 2, -1.5), Link(7, 4, 1.0), Link(2, 9, 3.0)]
    (timeline,) = lay_out(links)

    assert timeline == {2: 0.0, 4: 1.5, 7: 0.5, 9: 3.0}
    assert lay_out(links[::-1]) == [timeline]
    assert lay_out([Link(link.second, link.first, -link.shift_s) for link in links]) == [timeline]


def test_recordings_that_nothing_ties_lie_on_timelines_of_their_own() -> None:
    assert lay_out([Link(0, 3, 1.0), Link(1, 2, 2.0)]) == [{0: 0.0, 3: 1.0}, {1: 0.0, 2: 2.0}]


def test_a_ring_is_followed_the_shortest_way() -> None:
    assert lay_out([Link(0, 1, 1.0), Link(1, 2, 1.0), Link(0, 2, 2.001)]) == [{0: 0.0, 1: 1.0, 2: 2.001}]


def test_a_chain_of_ten_thousand_is_no_depth() -> None:
    (timeline,) = lay_out(Link(i, i + 1, 0.5) for i in range(10_000))

    assert timeline[10_000] == 5000.0

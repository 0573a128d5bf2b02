"""Side by side: the best price that can be had, the margins, and no stale price as the best."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from app.core.enums import Market, MarketOutcome
from app.odds.comparison import MarketComparison, Match, OddsOffer, compare, margin
from tests.clock import NOON

FRESH = timedelta(minutes=10)


def offer(
    platform: str, outcome: MarketOutcome, price: str, market: Market = Market.BOTH_TEAMS_TO_SCORE
) -> OddsOffer:
    return OddsOffer(
        match="70000001",
        platform=platform,
        country="Nigeria",
        competition="NPFL",
        home="Home",
        away="Away",
        kickoff=NOON + timedelta(days=1),
        market=market,
        line=None,
        outcome=outcome,
        price=Decimal(price),
        active=True,
        seen_at=NOON,
        changed_at=NOON,
    )


YES, NO = offer("betpawa", MarketOutcome.YES, "1.90"), offer("betpawa", MarketOutcome.NO, "1.80")
HIGHER = offer("bet9ja", MarketOutcome.YES, "2.00")


def only(matches: list[Match]) -> MarketComparison:
    ((row,),) = [match.rows for match in matches]
    return row


def test_the_best_price_is_the_highest_and_names_its_site() -> None:
    row = only(compare([YES, HIGHER, NO], NOON, FRESH))

    best = [pick.best and (pick.best.platform, pick.best.price) for pick in row.picks]
    assert best == [("bet9ja", Decimal("2.00")), ("betpawa", Decimal("1.80"))]


def test_a_stale_price_is_marked_and_never_the_best() -> None:
    stale = replace(HIGHER, seen_at=NOON - FRESH - timedelta(seconds=1))

    row = only(compare([YES, stale, NO], NOON, FRESH))

    assert row.picks[0].quotes["bet9ja"].stale
    assert row.picks[0].best is not None
    assert row.picks[0].best.platform == "betpawa"


def test_a_suspended_price_is_shown_and_never_the_best() -> None:
    row = only(compare([replace(YES, active=False), NO], NOON, FRESH))

    assert row.picks[0].quotes["betpawa"].price == Decimal("1.90")
    assert row.picks[0].best is None
    assert (row.margins, row.margin) == ({}, None)


def test_margins_are_of_each_site_that_offers_all_outcomes_and_of_the_best_together() -> None:
    row = only(compare([YES, HIGHER, NO], NOON, FRESH))

    assert row.margins == {"betpawa": 1 / Decimal("1.90") + 1 / Decimal("1.80") - 1}
    assert row.margin == 1 / Decimal("2.00") + 1 / Decimal("1.80") - 1


def test_two_of_three_double_chances_win() -> None:
    fair = [Decimal("1.5")] * 3

    kept = margin(Market.DOUBLE_CHANCE, fair)

    assert kept is not None
    assert abs(kept) < Decimal("1e-20")


def test_of_a_match_that_a_site_lists_twice_the_listing_seen_last_counts() -> None:
    later = replace(YES, price=Decimal("1.70"), seen_at=NOON + timedelta(seconds=1))

    row = only(compare([later, YES, NO], NOON, FRESH))

    assert row.picks[0].quotes["betpawa"].price == Decimal("1.70")


def test_matches_come_by_kick_off_and_lines_in_order() -> None:
    over = offer("betpawa", MarketOutcome.OVER, "1.9", Market.OVER_UNDER)
    offers = [replace(over, line=Decimal(line)) for line in ("10.5", "2.5", "3")]
    sooner = replace(YES, match="2", kickoff=NOON + timedelta(hours=1))

    first, second = compare([*offers, sooner], NOON, FRESH)

    assert first.key == "2"
    assert [row.line for row in second.rows] == [Decimal("2.5"), Decimal(3), Decimal("10.5")]


def test_a_site_that_has_the_teams_the_other_way_round_is_named_and_not_compared() -> None:
    teams = {"home": "Northbridge FC", "away": "Eastvale United"}
    swapped = {"home": "Eastvale Utd", "away": "Northbridge"}
    others = [replace(YES, **teams), replace(NO, **teams)]
    wrong = replace(HIGHER, **swapped)

    (match,) = compare(
        [*others, wrong, replace(HIGHER, platform="sportybet", **teams)], NOON, FRESH
    )

    assert match.swapped == ("bet9ja",)
    assert match.platforms == ("bet9ja", "betpawa", "sportybet")
    assert match.home == "Northbridge FC"
    assert all("bet9ja" not in pick.quotes for row in match.rows for pick in row.picks)


def test_two_teams_with_a_word_in_common_are_not_swapped() -> None:
    teams = {"home": "Manchester United", "away": "Manchester City"}
    same = {"home": "Manchester Utd", "away": "Manchester City FC"}

    (match,) = compare([replace(YES, **teams), replace(HIGHER, **same)], NOON, FRESH)

    assert match.swapped == ()

"""The five articles, each in its own example: somebody's touchpoints, and what the journey says of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from shared.journey.language import parse
from tests.support.stories import BUILT_IN, on, tell, tell_runs

B2C, B2B = "b2c-loyalty-loop", "b2b-loyalty-loop"
CAR, SERVICE = "decision-to-delivery", "service"
INFINITY = "before-during-after"
SWEDISH = "awareness-to-after-purchase"
MOMENTS = "attention-to-loyalty"
_TIMED = re.compile(r"\b(after|within|ago|close_after|off_after): [0-9]+[smhdw]")
GOOD: dict[str, Any] = {"sentiment": 0.6}
BAD: dict[str, Any] = {"sentiment": -0.7}
STAGES = {
    B2C: ["Bevidsthed", "Overvejelse", "Beslutning", "Fastholdelse", "Anbefaling"],
    B2B: ["Bevidsthed", "Overvejelse", "Beslutning", "Fastholdelse", "Anbefaling"],
    INFINITY: ["Før købet", "Under købet", "Efter købet"],
    SWEDISH: ["Medvetenhet", "Jämföra alternativ", "Övervägande", "Köpbeslut", "Efter köpet"],
    MOMENTS: ["Opmærksomhed", "Overvejelse", "Køb", "Brugeroplevelse", "Loyalitet"],
}


@pytest.mark.parametrize("key", STAGES)
def test_the_stages_are_the_articles_in_its_words_and_its_order(key: str) -> None:
    """Labels stand in the language of the article, which the definition names."""
    definition = BUILT_IN[key]

    assert definition.article is not None
    language = definition.article.language
    assert [stage.labels[language] for stage in definition.stages] == STAGES[key]


class TestLoyaltyLoop:
    """Article 000."""

    @pytest.mark.parametrize("where", ["web", "store"])
    def test_the_omnichannel_customer_buys_on_the_website_or_in_the_store(self, where: str) -> None:
        """Found on social media, looked into on the phone, bought on either: one customer, one way."""
        told = tell(
            B2C,
            on(0, "social_view", "social"),
            on(1, "product_viewed", "app"),
            on(1.1, "review_read", "app"),
            on(3, "order_completed", where),
        )

        assert told.path == ["awareness", "consideration", "retention"]
        assert (told.observed, told.inferred) == (["awareness", "consideration", "retention"], ["decision"])

    def test_the_circle_closes_and_begins_anew(self) -> None:
        """An advocate who evaluates a new product is on a second lap; one look at a product is none."""
        first = [
            on(0, "product_added_to_cart"),
            on(1, "order_completed", "store"),
            on(20, "review_written", properties={"rating": 5}),
        ]
        views = [on(60 + number, "product_viewed") for number in range(3)]
        one_look, evaluating = tell(B2C, *first, views[0]), tell(B2C, *first, *views)

        assert (one_look.state.place, one_look.state.lap) == ("advocacy", 1)
        assert (evaluating.state.place, evaluating.state.lap) == ("consideration", 2)
        assert evaluating.state.furthest == "advocacy"
        assert (evaluating.observed, evaluating.inferred) == (["consideration"], ["awareness"])
        bought = tell(B2C, *first, *views, on(70, "order_completed"))
        assert bought.path[-2:] == ["consideration", "retention"]

    def test_a_decision_may_be_a_no_and_a_no_may_be_taken_back(self) -> None:
        """She decides "eller lade være"; what she then does is not lost."""
        told = tell(B2C, on(0, "checkout_started"), on(1, "offer_declined", "phone"))
        silent = tell(B2C, on(0, "checkout_started"), until=60)
        back = tell(B2C, on(0, "checkout_started"), on(70, "product_viewed"))

        assert told.path == ["decision", "not_bought"]
        assert silent.kinds("pause", "exit") == [
            ("pause", "decision.pause", 7.0),
            ("exit", "not_bought.enter[1]", 60.0),
        ]
        assert back.path == ["decision", "not_bought", "consideration"]

    def test_an_advocate_brings_a_new_customer(self) -> None:
        """Between people the loop is a touchpoint that says whose referral it was."""
        advocate = tell(B2C, on(0, "order_completed"), on(9, "referral_sent", "social"))
        newcomer = tell(B2C, on(10, "referral_received", "social", properties={"referred_by": "ann"}))

        assert advocate.state.place == "advocacy"
        assert (newcomer.state.place, newcomer.signals) == ("awareness", ["referred"])
        assert newcomer.history[-1].touchpoint_id == newcomer.history[0].touchpoint_id

    def test_companies_and_consumers_are_on_different_journeys(self) -> None:
        """Who is known to buy for a company isn't on the consumers' loop; the other one is about accounts."""
        identified = on(0, "page_viewed", traits={"customer_type": "business"})

        assert tell(B2C, identified, on(1, "product_viewed")).path == []
        assert tell(B2C, on(0, "page_viewed"), on(1, "product_viewed")).path == ["awareness", "consideration"]
        assert BUILT_IN[B2B].subject.kind == "account"
        assert [one.key for one in BUILT_IN[B2B].stages] == [one.key for one in BUILT_IN[B2C].stages]

    def test_an_account_buys_through_several_people_who_talk(self) -> None:
        """Calls and meetings count; a decision maker at the table is a decision; silence is patience."""
        told = tell(
            B2B,
            on(0, "whitepaper_downloaded", properties={"role": "user"}),
            on(120, "call_ended", "phone", properties={"role": "user"}),
            on(150, "meeting_held", "meeting", properties={"role": "decision_maker"}),
            on(200, "order_completed", "meeting"),
        )

        assert told.path == ["consideration", "decision", "retention"]
        assert told.kinds("pause") == []
        assert told.signals == ["several_stakeholders"]
        assert told.counts == {"personal_contacts": 2}


class TestDecisionToDelivery:
    """Article 001: the car buyer."""

    STORY = (
        on(0, "campaign_responded", "ads", context={"campaign": "spring"}),
        on(2, "search_performed", context={"search_term": "køb vs. privatleasing"}),
        on(3, "calculator_used"),
        on(10, "listing_viewed", owner="third_party"),
        on(12, "review_read", owner="third_party"),
        on(20, "product_configured"),
        on(30, "test_drive", "store"),
        on(31, "lead_handed_over", "phone"),
        on(40, "order_completed", "store"),
        on(100, "order_delivered", "store", properties={"vehicle_id": "AB 12 345"}),
    )

    def test_the_questions_come_in_order_and_the_delivery_is_the_end(self) -> None:
        """From the need to the delivered car, through web, portals, phone and store."""
        told = tell(CAR, *self.STORY)

        assert told.path == [
            "need_activated",
            "orientation",
            "option_choice",
            "purchase_ready",
            "ordered",
            "delivered",
        ]
        assert told.inferred == []
        assert told.counts == {"third_party_touches": 2}

    def test_who_is_first_seen_late_has_been_through_what_nobody_saw(self) -> None:
        """A test drive as the first touchpoint: the earlier stages are inferred, none is observed."""
        told = tell(CAR, on(0, "test_drive", "store"))

        assert told.observed == ["purchase_ready"]
        assert told.inferred == ["need_activated", "orientation", "option_choice"]

    def test_sales_gets_whom_it_can_use_and_gives_back_whom_it_can_not(self) -> None:
        """Ready by a test drive, handed over, given back to be nurtured: the stage stays."""
        told = tell(CAR, *self.STORY[:8], on(35, "lead_returned", "phone"))

        assert told.state.place == "purchase_ready"
        assert told.kinds("signal_on", "signal_off") == [
            ("signal_on", "slow_tracker.on", 20.0),
            ("signal_on", "sales_ready.on", 30.0),
            ("signal_on", "handed_over.on", 31.0),
            ("signal_off", "sales_ready.off", 35.0),
            ("signal_off", "handed_over.off", 35.0),
        ]
        assert tell(CAR, *self.STORY[:6], on(21, "lead_handed_over")).signals == [
            "handed_over",
            "slow_tracker",
        ]

    @pytest.mark.parametrize(
        ("back", "owner", "signals"),
        [(13, "own", []), (14, "own", ["slow_tracker"]), (20, "third_party", [])],
    )
    def test_a_slow_tracker_is_still_there_after_the_burst(
        self, back: int, owner: str, signals: list[str]
    ) -> None:
        """Answered the campaign, didn't buy at once, and is seen on a touchpoint of our own later."""
        campaign = on(0, "campaign_responded", "ads")

        assert tell(CAR, campaign, on(back, "product_viewed", owner=owner)).signals == signals
        assert tell(CAR, campaign, on(5, "order_completed"), on(20, "page_viewed")).signals == []

    def test_a_silent_buyer_is_paused_and_not_dropped(self) -> None:
        """After 45 days without a touchpoint the stage is kept."""
        told = tell(CAR, on(0, "review_read"), until=400)

        assert (told.state.place, told.state.paused) == ("option_choice", True)
        assert told.kinds("pause", "exit") == [("pause", "option_choice.pause", 45.0)]

    def test_the_delivery_is_followed_by_the_owners_journey(self) -> None:
        """Service is started by the journey that ended, for each car by itself, again and again."""
        mine, other = {"vehicle_id": "AB 12 345"}, {"vehicle_id": "CD 67 890"}
        runs = tell_runs(
            SERVICE,
            *self.STORY,
            on(101, "order_delivered", "store", properties=other),
            on(465, "service_due", "email", properties=mine),
            on(470, "service_booked", "phone", properties=mine),
            on(480, "service_started", "store", properties=mine),
            on(480.5, "service_done", "store", properties=mine),
            on(500, "service_due", "email", properties=other),
            on(845, "service_due", "email", properties=mine),
            until=845,
        )

        assert runs["AB 12 345"].path == ["due", "booked", "in_service", "done", "due"]
        assert (runs["AB 12 345"].state.lap, runs["CD 67 890"].state.lap) == (2, 1)
        assert runs["CD 67 890"].path == ["due"]
        assert runs["CD 67 890"].state.paused
        assert runs["AB 12 345"].history[0].rule == "decision-to-delivery.starts[0]"


class TestBeforeDuringAfter:
    """Article 002."""

    STORY = (
        on(0, "search_performed"),
        on(5, "brochure_requested"),
        on(9, "call_ended", "phone"),
        on(14, "meeting_held", "meeting"),
        on(20, "order_completed", "phone"),
        on(40, "order_delivered", "mail"),
        on(41, "product_put_into_use", "store"),
    )

    def test_from_the_brochure_to_the_new_sale_without_an_end(self) -> None:
        """The six contact points, and with the new sale the next lap."""
        told = tell(INFINITY, *self.STORY)
        again = tell(INFINITY, *self.STORY, on(300, "order_completed"), on(310, "order_delivered", "mail"))

        assert told.path == ["before", "during", "after"]
        assert told.kinds("substage") == [("substage", "before.shortlist.enter", 5.0)]
        assert again.path == ["before", "during", "after", "before", "during"]
        assert again.state.lap == 2
        assert BUILT_IN[INFINITY].exits == ()

    def test_a_general_search_turns_specific_with_a_shortlist(self) -> None:
        """The first part of `before` lasts until there is a shortlist of suppliers."""
        general = tell(INFINITY, on(0, "search_performed"), on(1, "search_performed"))
        specific = tell(
            INFINITY, on(0, "search_performed"), on(1, "search_performed", properties={"specific": True})
        )

        assert (general.state.substage, specific.state.substage) == ("general", "shortlist")

    def test_every_contact_point_counts_good_and_bad(self) -> None:
        """A bad one is open until it is handled well: then it has been recovered."""
        told = tell(
            INFINITY,
            *self.STORY,
            on(50, "complaint", "phone", **BAD),
            on(53, "complaint_resolved", "phone", **GOOD),
        )
        ignored = tell(INFINITY, *self.STORY, on(50, "complaint", "phone", **BAD), until=231)
        unsaid = tell(
            INFINITY,
            *self.STORY,
            on(45, "rating_given", properties={"rating": 5}),
            on(46, "rating_given", properties={"rating": 3}),
            on(47, "rating_given", properties={"rating": 1}),
            on(50, "complaint", "phone"),
            on(53, "complaint_resolved", "phone"),
        )

        assert told.counts == {"contact_points": 9, "good_contacts": 1, "bad_contacts": 1}
        # Nobody said how these felt: a rating tells, and what they are.
        assert unsaid.counts == {"contact_points": 12, "good_contacts": 2, "bad_contacts": 2}
        assert told.kinds("open", "close") == [
            ("open", "bad_contact.open", 50.0),
            ("close", "bad_contact.close", 53.0),
        ]
        assert ignored.kinds("close") == [("close", "bad_contact.close_after", 230.0)]

    def test_whoever_seeks_information_and_meets_terms_of_sale_met_a_bad_contact_point(self) -> None:
        """A mismatch within the hour is bad; terms that were looked for are not."""
        met = tell(INFINITY, on(0, "search_performed"), on(0.01, "terms_viewed"))
        sought = tell(INFINITY, on(0, "search_performed"), on(1, "terms_viewed"))

        assert (met.open, sought.open) == (["bad_contact"], [])

    def test_there_is_a_journey_for_each_target_group(self) -> None:
        """Two copies of the file, each for its own group: several live at once, and each has its people."""
        source = BUILT_IN[INFINITY].source
        group = "for: {when: {trait: {group: %s}}}\nsubject: customer"
        young, old = (
            parse(source.replace("subject: customer", group % name), f"{name}.yaml")
            for name in ("young", "old")
        )
        search = on(0, "search_performed", traits={"group": "young"})

        assert (tell(young, search).path, tell(old, search).path) == (["before"], [])


class TestAwarenessToAfterPurchase:
    """Article 003."""

    def test_comparing_comes_before_consideration(self) -> None:
        """The order trap: here alternatives are compared first, and the company argues afterwards."""
        told = tell(
            SWEDISH,
            on(0, "ad_impression", "ads"),
            on(3, "article_read"),
            on(8, "sales_call_held", "phone"),
            on(30, "order_completed", "store"),
            on(40, "customer_letter_sent", "mail"),
        )

        assert told.path == [
            "awareness",
            "comparing",
            "consideration",
            "purchase_decision",
            "after_purchase",
        ]

    def test_time_is_given_to_decide(self) -> None:
        """A silence of 89 days in consideration is no pause; when comparing, 30 days are one."""
        thinking = tell(SWEDISH, on(0, "quote_requested"), until=89)
        comparing = tell(SWEDISH, on(0, "review_read"), until=89)

        assert (thinking.state.paused, comparing.state.paused) == (False, True)
        pause = BUILT_IN[SWEDISH].stages[2].pause
        assert pause is not None
        assert pause.patience

    @pytest.mark.parametrize("touches", [0, 3, 7, 12])
    def test_the_touches_before_a_purchase_are_counted_and_no_rule(self, touches: int) -> None:
        """Seven is an average that "kan inte anses gälla i alla fall": the number is told as it is."""
        before = [on(number, "page_viewed") for number in range(touches)]
        told = tell(SWEDISH, *before, on(50, "order_completed"), on(60, "page_viewed"))

        assert told.state.place == "purchase_decision"
        assert told.counts == ({"touches_before_purchase": touches} if touches else {})

    def test_who_deviates_has_left_the_path_and_may_come_back(self) -> None:
        """The stage is kept meanwhile, and where she left and came back is in the history."""
        told = tell(
            SWEDISH,
            on(0, "product_viewed"),
            on(4, "quote_requested", "phone"),
            on(6, "offer_declined", "phone"),
            on(20, "store_visited", "store"),
        )

        assert told.kinds("open", "close") == [
            ("open", "deviated.open", 6.0),
            ("close", "deviated.close", 20.0),
        ]
        assert told.state.place == "consideration"

    def test_a_deficient_touchpoint_ends_the_journey_before_it_began(self) -> None:
        """In awareness a bad contact is an end; later it is a deviation."""
        early = tell(SWEDISH, on(0, "ad_click", "ads"), on(1, "page_viewed", **BAD))
        late = tell(SWEDISH, on(0, "product_viewed"), on(1, "page_viewed", **BAD))

        assert early.path == ["awareness", "ended_early"]
        assert (late.path, late.open) == (["comparing"], ["deviated"])


class TestAttentionToLoyalty:
    """Article 004."""

    def test_the_purchase_is_a_moment(self) -> None:
        """Nobody ever is in the gate: use begins with the very touchpoint that was the purchase."""
        views = [on(1, "product_viewed"), on(2, "product_viewed")]
        told = tell(MOMENTS, on(0, "page_viewed"), *views, on(3, "order_completed"))

        assert told.path == ["attention", "consideration", "purchase", "use"]
        assert told.history[-1].at == told.history[-2].at
        assert told.history[-1].touchpoint_id == told.history[-2].touchpoint_id
        assert told.counts == {"touches_before": 3}

    def test_an_open_complaint_interrupts_and_blocks_loyalty(self) -> None:
        """A second purchase during a complaint makes no loyal customer; one afterwards does."""
        used = [on(0, "order_completed"), on(5, "complaint", "phone", **BAD)]
        blocked = tell(MOMENTS, *used, on(9, "order_completed"))
        settled = tell(MOMENTS, *used, on(8, "complaint_resolved", "phone"), on(9, "order_completed"))

        assert (blocked.state.place, blocked.open) == ("use", ["complaint"])
        assert (settled.state.place, settled.open) == ("loyalty", [])

    def test_pauses_and_detours_keep_the_stage(self) -> None:
        """A pause is silence; a detour has a length, and a point of return."""
        told = tell(
            MOMENTS,
            on(0, "products_compared"),
            on(10, "review_read", owner="third_party"),
            on(60, "page_viewed"),
        )

        assert told.kinds("open", "pause", "resume", "close") == [
            ("open", "elsewhere.open", 10.0),
            ("pause", "consideration.pause", 40.0),
            ("close", "elsewhere.close", 60.0),
            ("resume", "consideration.pause", 60.0),
        ]
        assert {one.to_place for one in told.history[1:]} == {"consideration"}

    def test_a_drop_off_names_the_stage_that_was_left(self) -> None:
        """After 180 days without a touchpoint; a purchase is the way back through the gate."""
        told = tell(MOMENTS, on(0, "products_compared"), until=180)
        back = tell(MOMENTS, on(0, "products_compared"), on(300, "order_completed", "store"))

        assert (told.history[-1].from_place, told.history[-1].to_place) == ("consideration", "lost")
        assert back.path == ["consideration", "lost", "purchase", "use"]

    def test_a_return_leads_back_to_consideration(self) -> None:
        """Going back is declared; the furthest stage stays known."""
        told = tell(MOMENTS, on(0, "order_completed"), on(9, "return_completed", "store"))

        assert (told.state.place, told.state.furthest) == ("consideration", "use")

    def test_one_journey_does_not_fit_all(self) -> None:
        """It is for private customers, and each stage tells what they feel."""
        business = on(0, "page_viewed", traits={"customer_type": "business"})

        assert tell(MOMENTS, business).path == []
        assert all(stage.inside and "feelings" in stage.inside for stage in BUILT_IN[MOMENTS].stages)


def test_every_number_of_the_articles_journeys_is_marked_as_ours() -> None:
    """No article gives a time: each line with a duration says so."""
    for definition in BUILT_IN.values():
        if definition.article is not None:
            timed = [line for line in definition.source.splitlines() if _TIMED.search(line)]
            assert timed, definition.key
            assert [line for line in timed if "# ours" not in line] == []


def test_a_journey_is_only_started_where_the_other_says_so() -> None:
    """Without the delivery that went before, or without the journey that starts it, nothing is due."""
    due = on(1, "service_due", properties={"vehicle_id": "AB 12 345"})
    alone = replace(BUILT_IN[SERVICE], started_by=())

    assert tell(SERVICE, due).path == []
    assert tell(alone, on(0, "order_delivered", properties={"vehicle_id": "AB 12 345"}), due).path == []

"""The catalogue of touchpoint types: one grammar, exact counterparts, and all that the project speaks of."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from shared.touchpoint_types import TouchpointType, catalogue, known_types

_ROOT = Path(__file__).parents[2]
Spec = Literal["segment", "ga4", "shopify"]

_NOUNS = {"ad_impression", "ad_click", "complaint", "service_due", "social_view", "test_drive"}
_IRREGULAR = {
    "done",
    "given",
    "held",
    "left",
    "lost",
    "paid",
    "put",
    "read",
    "sent",
    "shown",
    "won",
    "written",
}

SEGMENT = {
    *("Products Searched", "Product List Viewed", "Product List Filtered"),
    *("Promotion Viewed", "Promotion Clicked"),
    *("Product Clicked", "Product Viewed", "Product Added", "Product Removed", "Cart Viewed"),
    *("Checkout Started", "Checkout Step Viewed", "Checkout Step Completed", "Payment Info Entered"),
    *("Order Completed", "Order Updated", "Order Refunded", "Order Cancelled"),
    *("Coupon Entered", "Coupon Applied", "Coupon Denied", "Coupon Removed"),
    *("Product Added to Wishlist", "Product Removed from Wishlist", "Wishlist Product Added to Cart"),
    *("Product Shared", "Cart Shared", "Product Reviewed"),
}
"""https://segment.com/docs/connections/spec/ecommerce/v2/: all of its events."""

GA4_RECOMMENDED = {
    *("generate_lead", "join_group", "login", "purchase", "refund", "search"),
    *("select_content", "share", "sign_up", "tutorial_begin", "tutorial_complete"),
    *("add_payment_info", "add_shipping_info", "add_to_cart", "add_to_wishlist", "begin_checkout"),
    *("remove_from_cart", "select_item", "select_promotion", "view_cart", "view_item", "view_item_list"),
    *("view_promotion", "qualify_lead", "disqualify_lead", "working_lead", "close_convert_lead"),
    "close_unconvert_lead",
}
"""https://support.google.com/analytics/answer/9267735: all but those for games, and but
`ad_impression`, by which the publisher of an app tells that it showed somebody else's advertisement."""

GA4_BY_ITSELF = {"file_download", "page_view", "screen_view", "video_complete", "view_search_results"}
"""https://support.google.com/analytics/answer/9234069 and .../9216061: those that are touchpoints."""

SHOPIFY_PIXEL = {
    *("alert_displayed", "cart_viewed", "checkout_address_info_submitted", "checkout_completed"),
    *("checkout_contact_info_submitted", "checkout_shipping_info_submitted", "checkout_started"),
    *("collection_viewed", "page_viewed", "payment_info_submitted", "product_added_to_cart"),
    *("product_removed_from_cart", "product_viewed", "search_submitted"),
}
"""https://shopify.dev/docs/api/web-pixels-api/standard-events: all but `ui_extension_errored`, which is about
an app and not about a customer."""

SHOPIFY_TOPICS = {
    *("carts/create", "carts/update", "checkouts/create", "customers/create", "fulfillments/create"),
    *("orders/cancelled", "orders/create", "orders/edited", "orders/fulfilled", "orders/paid"),
    *("orders/updated", "refunds/create", "returns/close", "returns/request"),
    "subscription_contracts/create",
}
"""https://shopify.dev/docs/api/webhooks: the topics that tell of a touchpoint by themselves, whatever they
carry."""

ARTICLES = {
    "000": """ad_impression ad_click social_view referral_received page_viewed product_viewed review_read
        case_study_read products_compared pricing_viewed product_added_to_cart checkout_started
        quote_requested sales_call_held checkout_abandoned order_completed order_delivered
        support_case_opened survey_answered review_written referral_sent content_shared addon_purchased
        whitepaper_downloaded demo_attended meeting_held chat_started email_opened""",
    "001": """search_performed article_read campaign_responded calculator_used listing_viewed review_read
        product_configured test_drive quote_requested call_ended store_visited order_completed order_delivered
        service_due service_booked service_started service_done lead_handed_over lead_returned""",
    "002": """search_performed supplier_shortlisted brochure_requested call_ended meeting_held order_delivered
        product_put_into_use manual_read return_completed complaint complaint_resolved referral_sent
        review_written company_mentioned terms_viewed expectation_missed order_completed""",
    "003": """ad_impression page_viewed store_visited meeting_held article_read products_compared
        lead_contacted order_completed customer_letter_sent addon_purchased review_requested""",
    "004": """page_viewed products_compared order_completed rating_given review_written interview_held
        complaint complaint_resolved payment_failed referral_sent return_completed""",
}
"""What the five articles name, or what is proposed for them."""


def counterparts(spec: Spec) -> list[str]:
    return [name for types in catalogue().values() for one in types.values() for name in getattr(one, spec)]


def test_names_follow_one_grammar() -> None:
    """A name is a thing and a verb in the past, in snake_case; the few nouns of the field are listed here."""
    for name in known_types():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
        words = name.split("_")
        has_verb = any(word.endswith("ed") or word in _IRREGULAR for word in words[-4:])
        assert has_verb is (name not in _NOUNS), name


def test_a_name_is_in_the_catalogue_once() -> None:
    """Whatever it is about."""
    assert max(Counter(name for types in catalogue().values() for name in types).values()) == 1


@pytest.mark.parametrize(
    ("spec", "required", "allowed"),
    [
        ("segment", SEGMENT, SEGMENT),
        ("ga4", GA4_RECOMMENDED, GA4_RECOMMENDED | GA4_BY_ITSELF),
        ("shopify", SHOPIFY_PIXEL, SHOPIFY_PIXEL | SHOPIFY_TOPICS),
    ],
)
def test_counterparts_are_the_names_of_their_spec(spec: Spec, required: set[str], allowed: set[str]) -> None:
    """Each exists, and leads to one type alone, so that a door can translate it; no event of a spec that is
    about customers is left without a type."""
    found = counterparts(spec)

    assert len(found) == len(set(found))
    assert required <= set(found) <= allowed


@pytest.mark.parametrize("article", sorted(ARTICLES))
def test_what_an_article_speaks_of_has_a_type(article: str) -> None:
    """Its journey can be told in touchpoints of the catalogue."""
    assert not set(ARTICLES[article].split()) - known_types()


def test_bad_is_bad_and_good_is_good() -> None:
    """The usual sentiment of a complaint, a return and a payment error is bad, that of a recommendation and a
    settled complaint is good; where it depends on what was said there is none."""
    of: dict[str, TouchpointType] = {
        name: one for types in catalogue().values() for name, one in types.items()
    }
    for bad in ("complaint", "return_completed", "payment_failed", "order_cancelled", "expectation_missed"):
        assert (of[bad].sentiment or 0) < 0, bad
    for good in ("complaint_resolved", "referral_sent", "referral_received", "content_shared"):
        assert (of[good].sentiment or 0) > 0, good
    for depends in ("review_written", "rating_given", "survey_answered", "company_mentioned", "review_read"):
        assert of[depends].sentiment is None, depends


@pytest.mark.parametrize(
    "path",
    sorted([*_ROOT.glob("shared/journey/models/*.yaml"), *_ROOT.glob("docs/examples/*.yaml")]),
    ids=lambda path: path.name,
)
def test_definitions_and_examples_speak_the_vocabulary(path: Path) -> None:
    """Every type that a shipped file names is in the catalogue."""
    named = set(_types_in(yaml.safe_load(path.read_text())))

    assert named
    assert not named - known_types()


def test_the_readme_speaks_the_vocabulary() -> None:
    """Who copies the tour sends types of the catalogue."""
    named = set(re.findall(r'"type": "(\w+)"', (_ROOT / "README.md").read_text()))

    assert named
    assert not named - known_types()


def _types_in(node: Any) -> list[str]:
    """The values of every `type`, wherever in the file."""
    if isinstance(node, list):
        return [found for one in node for found in _types_in(one)]
    if not isinstance(node, dict):
        return []
    values = node.get("type", [])
    if isinstance(values, dict):
        # A mapping of an import says which values of a column mean which types.
        return list(values["values"].values())
    own = [values] if isinstance(values, str) else [one for one in values if isinstance(one, str)]
    return own + [found for one in node.values() for found in _types_in(one)]

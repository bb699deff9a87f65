"""May this be used here? Asked of a card's terms when something is found, before it is fetched and before it is absorbed."""

from __future__ import annotations

from collections.abc import Collection

from kuberml.knowledge.card import Terms


def allowed(terms: Terms, *, purpose: str, region: str, now_ms: int, licences: Collection[str] | None = None) -> str | None:
    """None if the terms allow it, else the first reason why not, as a sentence for people.

    An empty term forbids nothing. Against a term that is not empty, a receiver that does not say its purpose or region is
    refused: silence is not permission. Names are compared exactly.

    Args:
        terms: of the card.
        purpose: what the receiver will do with it; "" if it does not say.
        region: where the receiver is; "" if it does not say.
        now_ms: the receiver's clock; at expires_at_ms itself the terms have expired.
        licences: those that the receiver accepts; None accepts any.
    """
    if terms.expires_at_ms is not None and now_ms >= terms.expires_at_ms:
        return f"it expired at {terms.expires_at_ms} ms, and it is {now_ms} ms now"
    if terms.purposes and purpose not in terms.purposes:
        return f"it is for {_list(terms.purposes)}, not for {_said(purpose, 'purpose')}"
    if terms.regions and region not in terms.regions:
        return f"it is for use in {_list(terms.regions)}, not in {_said(region, 'region')}"
    if licences is not None and terms.licence and terms.licence not in licences:
        return f"its licence is {terms.licence!r:.80}; accepted here: {_list(tuple(sorted(licences)))}"
    return None


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name)[:80] for name in names[:8])  # a stranger wrote them: keep the message short
    return (shown or "none") + (", ..." if len(names) > 8 else "")


def _said(name: str, sort: str) -> str:
    return repr(name) if name else f"a {sort} that is not said"

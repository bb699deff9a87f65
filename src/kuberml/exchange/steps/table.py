"""Which steps go together, with which paradigms and policies, and why not. docs/steps.md shows the same table; a test compares.

A paradigm says what its server does with updates: "sum" (a cohort's mean is all it needs), "each" (a cohort, and it looks at
every client's model), "stream" (one by one, as they come); "gossip": there is no server; "own": clients hand in something else.
"""

from __future__ import annotations

from typing import Literal, get_args

from kuberml.core.errors import ConfigError
from kuberml.exchange.steps.options import Dp, Name, Steps

Collects = Literal["sum", "each", "stream", "gossip", "own"]

NAMES: tuple[Name, ...] = get_args(Name)
COLLECTS: tuple[Collects, ...] = ("sum", "each", "stream", "gossip")
AGGREGATORS = ("median", "trimmed-mean", "centred-clip")
COMPARING = ("krum", *AGGREGATORS)
SENDERS = ("clip", "top-k", "quantise")


def why_not_with(step: Name, collects: Collects, *, at_client: bool = True) -> str:  # noqa: PLR0911 - one for each reason
    """Why a step is impossible where updates are collected so; "" if it is possible. `at_client`: where "dp" adds noise."""
    if collects == "own":
        return "it is a step on changes of weights; what clients hand in there is something else"
    if collects == "gossip":
        if step == "masks":
            return "masks cancel in the sum of an agreed cohort; in gossip each peer opens its neighbours' models one by one"
        return "it is a step on updates that a server collects; in gossip there is no server"
    if collects == "stream":
        if step in (*COMPARING, "masks"):
            needs = "cancel in" if step == "masks" else "compares"
            return f"it {needs} the updates of one round; here they are taken in one by one as they come"
        if step == "dp" and not at_client:
            return "there is no round whose sum the server could noise; with dp.at = 'client' each client noises its own"
    if collects == "each":
        if step == "masks":
            return "the server looks at each client's model, and masks show only their sum"
        if step in COMPARING:
            return "the server also learns from each client's model, the liars' too, whatever the mean is"
        if step == "dp" and not at_client:
            return "the server also learns from each client's model, without the noise on their sum"
    return ""


def why_not(first: Name, second: Name, steps: Steps) -> str:  # noqa: PLR0911 - one for each reason
    """Why `second` cannot come after `first`; "" if it can. Some may be turned round: then the reason says so."""
    pair = {first, second}
    if "masks" in pair and (other := pair & set(COMPARING)):
        return f"masks show the server only the sum of a cohort; {other.pop()} compares single updates"
    if pair == {"masks", "top-k"} and steps.top_k.support == "own":
        return "masks add up place by place, and each client's largest values are in other places; set top_k.support = 'common'"
    if pair == {"masks", "quantise"}:
        return "masks need whole numbers that add up and send fixed-point ones already"
    if pair <= set(AGGREGATORS):
        return "each of them makes one vector of all updates"
    if pair & {"median", "trimmed-mean"} and "top-k" in pair and steps.top_k.support == "own":
        return "most clients leave a place out, so that what is in the middle there is 0; set top_k.support = 'common'"
    if "dp" in pair and steps.dp.at == "server" and pair & set(COMPARING):
        return "the noise is for a mean, which a client moves by norm / n at most; set dp.at = 'client'"
    return _order(first, second, steps)


def _order(first: Name, second: Name, steps: Steps) -> str:  # noqa: PLR0911 - as above
    local = "dp" in (first, second) and steps.dp.at == "client"
    if (first, second) == ("dp", "clip"):
        return "the noise is measured against the clipped norm: clip comes first"
    if first in ("top-k", "quantise") and second == "dp" and local:
        return f"noise on what {first} has made undoes it: dp comes first"
    if first == "quantise" and second in ("clip", "top-k"):
        return f"quantise rounds what is sent: {second} comes first"
    if first == "masks" and (second in SENDERS or (second == "dp" and local)):
        return f"{second} would change masked numbers: masks come last of what clients do"
    if first == "dp" and second == "masks" and not local:
        return "the server adds its noise to the sum that masks give: masks come first"
    if first in COMPARING and (second in SENDERS or (second == "dp" and local)):
        return f"{second} is done by each client, before the server comes to {first}"
    if first in AGGREGATORS and second == "krum":
        return f"krum chooses among updates, of which {first} has made one: krum comes first"
    return ""


def check(steps: Steps, collects: Collects) -> None:
    """Refuse steps that cannot be together, in this order, or with such a paradigm.

    Raises:
        ConfigError: the first that is found; it names both and says why.
    """
    names = steps.names
    for i, second in enumerate(names):
        if second in names[:i]:
            raise ConfigError(f"update_steps = {list(names)}: {second!r} stands there twice")
        if why := why_not_with(second, collects, at_client=steps.dp.at == "client"):
            raise ConfigError(f"update_steps = {list(names)}: {second!r} cannot go with {_PARADIGMS[collects]}: {why}")
        for first in names[:i]:
            if why := why_not(first, second, steps):
                raise ConfigError(f"update_steps = {list(names)}: {second!r} cannot come after {first!r}: {why}")
    if "dp" in names and "clip" not in names:
        raise ConfigError(f"update_steps = {list(names)}: 'dp' needs 'clip' before it: noise hides only what has a bound")


_PARADIGMS: dict[Collects, str] = {
    "sum": "a paradigm of rounds",
    "each": "a paradigm whose server looks at each client's model",
    "stream": "an asynchronous paradigm",
    "gossip": "gossip",
    "own": "a paradigm without updates",
}


def rows() -> list[list[str]]:
    """The table of docs/steps.md: of each step whether it stands before another, after it, either way ("yes"), or not with it.

    Then with which sort of paradigm it goes. Options other than dp.at are the defaults.
    """
    table = [["", *(label for label, _, _ in _VARIANTS), *(f"*{collects}*" for collects in COLLECTS)]]
    for label, name, at in _VARIANTS:
        pairs = [_mark(name, other, at or other_at or "server") for _, other, other_at in _VARIANTS]
        fits = ["no" if why_not_with(name, c, at_client=at == "client") else "yes" for c in COLLECTS]
        table.append([f"**{label}**", *pairs, *fits])
    return table


_VARIANTS: list[tuple[str, Name, Literal["server", "client"] | None]] = []
for _name in NAMES:
    if _name == "dp":
        _VARIANTS += [("dp, server", _name, "server"), ("dp, client", _name, "client")]
    else:
        _VARIANTS.append((_name, _name, None))


def _mark(name: Name, other: Name, at: Literal["server", "client"]) -> str:
    if name == other:
        return "-"
    steps = Steps(names=(name, other), dp=Dp(at=at))
    before, after = not why_not(name, other, steps), not why_not(other, name, steps)
    return {(True, True): "yes", (True, False): "first", (False, True): "after", (False, False): "no"}[before, after]

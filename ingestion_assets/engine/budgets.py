"""What a key may do, as sources.yaml says it: so many requests a second, a minute, a day. See `budget` for one of them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ingestion_assets.engine.budget import Budget, SharedBudget, Unlimited
from ingestion_assets.engine.store import Store


@dataclass(frozen=True, slots=True)
class Several:
    """Budgets that all have to allow a request; the first is waited for first, so it should be the scarcest."""

    budgets: tuple[SharedBudget, ...]

    @property
    def most(self) -> int:
        """What the smallest of them allows at once."""
        return min(budget.most for budget in self.budgets)

    @contextmanager
    def request(self, permits: int = 1) -> Iterator[None]:
        """Hold slots of each.

        Raises:
            QuotaExhausted: as one of them says.
            TooMuch: same.
        """
        with ExitStack() as held:
            for budget in self.budgets:
                held.enter_context(budget.request(permits))
            yield

    def pause(self, seconds: float) -> None:
        """Nobody uses any of them for so long; one would do, but each may be shared with others."""
        for budget in self.budgets:
            budget.pause(seconds)

    def shrink(self, requests: int) -> None:
        """A refusal does not say which window it speaks of: the budget that is larger by the least is meant."""
        larger = [budget for budget in self.budgets if budget.requests > requests]
        if larger:
            min(larger, key=lambda budget: budget.requests).shrink(requests)

    def used_today(self) -> int:
        """How many requests of this UTC day all processes have made so far, retries included."""
        return self.budgets[0].used_today()


def shared_budget(
    store: Store,
    name: str,
    *,
    per_second: float | None = None,
    per_minute: int | None = None,
    per_day: int | None = None,
    lease: float = 60.0,
) -> Budget:
    """The budget of a key; None: no limit of that kind.

    Args:
        store: where it is kept.
        name: see `budget_name`.
        per_second: requests a second. Whole requests in a window, rounded down: 3 are 3 in 1 s, 2.5 are 2 in 1 s, 0.5 is
            1 in 2 s.
        per_minute: requests in any 60 s.
        per_day: requests in a UTC day.
        lease: seconds after which a slot is taken back from a process that died with it.
    """
    found: list[SharedBudget] = []
    if per_minute is not None:
        found.append(
            SharedBudget(
                store, f"{name}/minute", requests=per_minute, window=60.0, per_day=per_day, lease=lease
            )
        )
    if per_second is not None or (per_day is not None and not found):
        window = 1.0 if per_second is None or per_second == int(per_second) else max(1.0, 1 / per_second)
        requests = 1_000 if per_second is None else max(1, int(per_second * window))
        day = None if found else per_day  # each request is counted once
        found.append(SharedBudget(store, name, requests=requests, window=window, per_day=day, lease=lease))
    if not found:
        return Unlimited()
    return found[0] if len(found) == 1 else Several(tuple(found))

"""A width for every filter under budgets, found from the weights' sigma and divergence (SigmaQuant)."""

from __future__ import annotations

from converters.search.budgets import Budgets, Zone
from converters.search.model_search import Search, search
from converters.search.searching import Ending, Goal, Method, SearchResult, Status, search_widths

__all__ = [
    "Budgets",
    "Ending",
    "Goal",
    "Method",
    "Search",
    "SearchResult",
    "Status",
    "Zone",
    "search",
    "search_widths",
]

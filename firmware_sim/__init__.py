"""The pretend board: board profiles, memory limits, the tensor arena, the pager, and simulations on them."""

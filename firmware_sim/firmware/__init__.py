"""Generated firmware: a model as a self-contained C project with a static memory plan and direct kernel calls."""

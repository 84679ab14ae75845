"""Recipes: rules, presets, TOML, and every mistake a user can make in one."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.recipe import Bias, Candidate, Recipe, Rule, load_recipe, parse_recipe, presets
from tflnest.errors import ExitCode, UsageError
from tflnest.nesting import Nesting, Scheme


def candidate(
    name: str = "block_1/conv", operator: str = "CONV_2D", size: int = 4096, first: bool = False
) -> Candidate:
    return Candidate(name, operator, size, first)


chains = st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True).map(
    lambda levels: tuple(sorted(levels))
)
conditions = st.fixed_dictionaries(
    {
        "scope": st.none()
        | st.text(max_size=12).map(lambda text: "".join(f"[{c}]" if c.isalnum() else "" for c in text)),
        "operator": st.none() | st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]),
        "smaller_than": st.none() | st.integers(0, 1 << 40),
        "first_convolution": st.booleans(),
    }
)
actions = st.one_of(
    st.just({"flat": True}),
    st.fixed_dictionaries({"levels": st.none() | chains, "scheme": st.none() | st.sampled_from(Scheme)}),
)
rules = st.builds(lambda when, what: Rule(**when, **what), conditions, actions)
recipes = st.builds(
    Recipe,
    levels=chains,
    scheme=st.sampled_from(Scheme),
    bias=st.sampled_from(Bias),
    rules=st.lists(rules, max_size=4).map(tuple),
)


@given(recipes)
def test_toml_gives_an_equal_recipe_back(recipe):
    text = recipe.to_toml()
    assert parse_recipe(text) == recipe
    assert parse_recipe(text).to_toml() == text
    tomllib.loads(text)


@pytest.mark.parametrize("scope", ['a"b', "a\\\\b", "tab\t", "line\n", "\x7f", "ü€😀", "'", "#", "[[rules]]"])
def test_any_scope_survives_toml(scope):
    recipe = Recipe(rules=(Rule(scope=scope.replace("[", r"\["), flat=True),))
    assert parse_recipe(recipe.to_toml()) == recipe


def test_presets_are_sound_and_the_default_is_documented_behaviour():
    assert {"default", "uniform", "compensated"} <= set(presets())
    for name in presets():
        recipe = load_recipe(name)
        assert parse_recipe(recipe.to_toml()) == recipe
    default = load_recipe()
    assert default == load_recipe("default")
    assert (default.levels, default.scheme, default.bias) == ((4, 6, 8), Scheme.BUCKET, Bias.CORRECTED)
    assert default.decide(candidate()).nesting == Nesting((4, 6, 8))
    assert default.decide(candidate(operator="DEPTHWISE_CONV_2D")).nesting is None
    assert default.decide(candidate(first=True)).nesting is None
    assert default.decide(candidate(size=255)).nesting is None
    assert default.decide(candidate(size=256)).nesting is not None
    assert load_recipe("uniform").decide(candidate(operator="DEPTHWISE_CONV_2D", size=1)).nesting is not None
    assert load_recipe("compensated").decide(candidate()).nesting == Nesting((6, 8), Scheme.COMPENSATED)


def test_the_first_rule_that_matches_decides():
    recipe = parse_recipe(
        """
        levels = [4, 6, 8]
        [[rules]]
        scope = "block_[12]/"
        levels = [6, 8]
        [[rules]]
        scope = "block_2/"
        flat = true
        [[rules]]
        scope = "head$"
        scheme = "compensated"
        [[rules]]
        operator = "FULLY_CONNECTED"
        smaller_than = 100
        flat = true
        """
    )
    assert recipe.decide(candidate("net/block_2/conv")).nesting == Nesting((6, 8))
    assert recipe.decide(candidate("net/block_2/conv")).reason == "recipe: scope 'block_[12]/'"
    assert recipe.decide(candidate("net/block_3/conv")).nesting == Nesting((4, 6, 8))
    assert recipe.decide(candidate("net/block_3/conv")).reason == "recipe: default"
    head = recipe.decide(candidate("head"))
    assert head.nesting == Nesting((4, 6, 8), Scheme.COMPENSATED)
    assert head.rounding == "nearest"
    small = recipe.decide(candidate("other", "FULLY_CONNECTED", 99))
    assert small.nesting is None
    assert small.reason == "recipe: operator FULLY_CONNECTED and smaller than 100 bytes stays flat"
    assert recipe.decide(candidate("other", "FULLY_CONNECTED", 100)).nesting is not None


def test_rules_describe_themselves():
    assert Rule().describe() == "every filter"
    assert Rule(first_convolution=True, scope="a").describe() == "scope 'a' and first convolution"


def test_extends_appends_the_rules_of_a_preset():
    recipe = parse_recipe('extends = "default"\nlevels = [3, 8]\n[[rules]]\nscope = "x"\nlevels = [5, 8]\n')
    assert recipe.levels == (3, 8)
    assert recipe.rules == (Rule(scope="x", levels=(5, 8)), *load_recipe("default").rules)


def test_another_scheme_takes_its_own_rounding():
    assert parse_recipe('scheme = "compensated"').rounding == "nearest"
    assert parse_recipe('extends = "default"\nscheme = "compensated"').rounding == "nearest"
    changed = load_recipe("default").with_options(scheme="compensated")
    assert (changed.scheme, changed.rounding) == (Scheme.COMPENSATED, "nearest")
    assert changed.with_options(scheme=Scheme.BUCKET).rounding == "truncate"


def test_options_of_the_command_line_replace_settings():
    recipe = load_recipe("default")
    assert recipe.with_options() == recipe
    assert recipe.with_options(levels=[6, 8]).levels == (6, 8)
    assert recipe.with_options(rounding="truncate").rounding == "truncate"
    with pytest.raises(UsageError, match="rounding 'nearest' does not fit the scheme bucket"):
        recipe.with_options(rounding="nearest")
    with pytest.raises(UsageError, match="the scheme is 'float'"):
        recipe.with_options(scheme="float")
    with pytest.raises(UsageError, match="do not increase"):
        recipe.with_options(levels=[8, 6])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("levels = [4, 6", "recipe: not TOML:", None),
        ("levels = " + "[" * 5000, "recipe: not TOML:", None),
        ("levels = [" + "9" * 5000 + "]", "recipe: not TOML:", None),
        ("level = [4, 8]", "the recipe has an unknown key 'level'", "did you mean levels?"),
        ("x_y = 1", "the recipe has an unknown key 'x_y'", "keys are base_bits, base_bytes, "),
        ("levels = 8", "levels of the recipe is 8, a list of bit-widths was expected", "[4, 6, 8]"),
        ("levels = []", "a chain of levels is empty", "4,6,8"),
        ("levels = [8, 4]", "levels 8,4 do not increase", None),
        ("levels = [4, 9]", "levels 4,9 are not all within 1..8", None),
        ('levels = ["4", "8"]', "are not all whole numbers", None),
        ("levels = [4.0, 8.0]", "are not all whole numbers", None),
        ('scheme = "float"', "scheme of the recipe is 'float'", "choices are bucket, compensated"),
        ("scheme = 3", "scheme of the recipe is 3", "choices are"),
        ("scheme = []", "scheme of the recipe is []", "choices are"),
        ('bias = "none"', "bias of the recipe is 'none'", "choices are source, corrected"),
        ('rounding = "magic"', "rounding of the recipe is 'magic'", "methods are truncate, nearest"),
        ("rounding = []", "rounding of the recipe is []", "methods are"),
        ('rounding = "nearest"', "rounding 'nearest' does not fit the scheme bucket", "use truncate"),
        ('extends = "defualt"', "extends is 'defualt', which is no preset", "presets are"),
        ("extends = 3", "extends is 3, which is no preset", "presets are"),
        ('extends = "recipe.toml"', "extends is 'recipe.toml', which is no preset", "presets are"),
        ("rules = 3", "rules is no list of tables", "[[rules]]"),
        ("rules = [1]", "rule 1 is no table", "[[rules]]"),
        ("[rules]\nflat = true", "rules is no list of tables", "[[rules]]"),
        ("[[rules]]\nscopes = 'x'", "rule 1 has an unknown key 'scopes'", "did you mean scope?"),
        ("[[rules]]\n[[rules]]\nscope = '('", "scope of rule 2 is '(', which is no regular expression", None),
        ("[[rules]]\nscope = 5", "scope of rule 1 is 5, which is no regular expression", None),
        ("[[rules]]\nscope = 'a{99999999999}'", "which is no regular expression", None),
        (
            "[[rules]]\noperator = 'SOFTMAX'",
            "operator of rule 1 is 'SOFTMAX'",
            "operators that nest are CONV_2D",
        ),
        ("[[rules]]\noperator = ['CONV_2D']", "operator of rule 1 is ['CONV_2D']", "operators that nest are"),
        (
            "[[rules]]\nsmaller_than = -1",
            "smaller_than of rule 1 is -1, a number of bytes was expected",
            None,
        ),
        ("[[rules]]\nsmaller_than = true", "smaller_than of rule 1 is True", None),
        ("[[rules]]\nsmaller_than = '1k'", "smaller_than of rule 1 is '1k'", None),
        ("[[rules]]\nflat = 1", "flat of rule 1 is 1, true or false was expected", None),
        ("[[rules]]\nfirst_convolution = 'yes'", "first_convolution of rule 1 is 'yes'", None),
        (
            "[[rules]]\nflat = true\nlevels = [4, 8]",
            "rule 1 is flat and has levels, a scheme or a rounding",
            "remove one",
        ),
        ("[[rules]]\nlevels = 4", "levels of rule 1 is 4, a list of bit-widths was expected", None),
        (
            "[[rules]]\nscheme = 'compensated'\nrounding = 'truncate'",
            "rounding 'truncate' does not fit the scheme compensated",
            None,
        ),
    ],
)
def test_mistakes_are_explained(text, message, hint):
    with pytest.raises(UsageError) as caught:
        parse_recipe(text)
    assert message in caught.value.message
    assert caught.value.message.startswith("recipe: ")
    assert caught.value.exit_code is ExitCode.USAGE
    if hint is not None:
        assert hint in caught.value.hint


def test_recipes_are_loaded_from_files(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = "uniform"\nlevels = [5, 8]\n')
    assert load_recipe(path).levels == (5, 8)
    assert load_recipe(str(path)) == load_recipe(path)
    path.write_text("levels = [5")
    with pytest.raises(UsageError, match=r"mine\.toml: not TOML"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"mine\.toml: a recipe is UTF-8 text"):
        load_recipe(path)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="there is no recipe 'unifrom'") as caught:
        load_recipe("unifrom")
    assert "did you mean uniform?" in caught.value.hint
    with pytest.raises(UsageError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="is a folder"):
        load_recipe(tmp_path)


def test_a_recipe_made_by_hand_is_checked():
    with pytest.raises(UsageError, match="there is no rounding method 'magic'"):
        Recipe(rounding="magic")
    with pytest.raises(UsageError, match="do not increase"):
        Recipe(levels=(8, 8))
    assert Recipe(levels=[4, 8]).levels == (4, 8)
    assert Recipe().rounding == "truncate"


def test_keep_stands_for_a_rounding_and_its_scales() -> None:
    base = load_recipe("default").with_options(keep="base")
    assert (base.rounding, base.scale) == ("joint", "corrected")
    assert base.needs_data
    assert base.with_options(keep="full-bit") == load_recipe("default")
    assert parse_recipe(base.to_toml()) == base


@pytest.mark.parametrize(
    ("levels", "scheme", "has_data", "keep"),
    [
        ((4, 6, 8), "bucket", True, "full-bit"),
        ((3, 5, 8), "bucket", True, "base"),
        ((2, 8), "bucket", False, "full-bit"),
        ((3, 8), "compensated", True, "full-bit"),
    ],
)
def test_what_is_kept_where_nobody_says(levels, scheme, has_data, keep) -> None:
    assert Recipe(levels=levels, scheme=Scheme(scheme)).best_keep(has_data) == keep


def test_keep_and_rounding_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="keep and rounding are both given"):
        load_recipe("default").with_options(keep="base", rounding="truncate")
    with pytest.raises(UsageError, match="keep is 'half'"):
        load_recipe("default").with_options(keep="half")
    with pytest.raises(UsageError, match="does not fit the scheme compensated"):
        load_recipe("default").with_options(keep="base", scheme="compensated")
